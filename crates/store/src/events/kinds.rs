//! The resources that tell of their changes: where their owner and status stand.

/// A kind of resource: a line of this page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// As events name it.
    pub name: &'static str,
    pub(super) table: &'static str,
    /// SQL of what identifies it, with an index.
    pub(super) id: &'static str,
    /// SQL of the project that owns it; `''`: nobody, so that only administrators see it.
    pub(super) project: &'static str,
    /// SQL of the user that owns it.
    pub(super) user: &'static str,
    /// SQL of its status.
    pub(super) status: &'static str,
}

const NONE: &str = "''";

impl Kind {
    /// A resource of the cloud as a whole, without a status.
    pub(super) const fn new(name: &'static str, table: &'static str) -> Self {
        Self { name, table, id: "id", project: NONE, user: NONE, status: NONE }
    }

    const fn of_project(mut self, sql: &'static str) -> Self {
        self.project = sql;
        self
    }

    const fn of_user(mut self, sql: &'static str) -> Self {
        self.user = sql;
        self
    }

    const fn status(mut self, sql: &'static str) -> Self {
        self.status = sql;
        self
    }
}

const ENABLED: &str = "case when enabled = 1 then 'enabled' else 'disabled' end";

macro_rules! kinds {
    ($($name:ident = $kind:expr;)*) => {
        $(#[doc = concat!("Events of `", stringify!($name), "`.")] pub const $name: Kind = $kind;)*
        /// Every kind.
        pub const KINDS: &[Kind] = &[$($name),*];
    };
}

// A-Z within each service.
kinds! {
    DOMAIN = Kind::new("domain", "domains").status(ENABLED);
    GROUP = Kind::new("group", "user_groups");
    PROJECT = Kind::new("project", "projects").status(ENABLED);
    ROLE = Kind::new("role", "roles");
    USER = Kind::new("user", "users").status(ENABLED);
    IMAGE = Kind::new("image", "images").of_project("owner").status("status");
    FLOATING_IP = Kind::new("floatingip", "floating_ips").of_project("project_id").status("status");
    NETWORK = Kind::new("network", "networks").of_project("project_id").status("status");
    PORT = Kind::new("port", "ports").of_project("project_id").status("status");
    ROUTER = Kind::new("router", "routers").of_project("project_id").status("status");
    SECURITY_GROUP = Kind::new("security_group", "security_groups").of_project("project_id");
    SUBNET = Kind::new("subnet", "subnets").of_project("project_id");
    FLAVOR = Kind::new("flavor", "flavors");
    HOST = Kind::new("host", "hosts").status("case when up = 1 then 'up' else 'down' end");
    // Names are the users' own; the migration has an index for the expression.
    KEYPAIR = Kind { id: "(user_id || '/' || name)", ..Kind::new("keypair", "keypairs").of_user("user_id") };
    SERVER = Kind::new("server", "servers").of_project("project_id").status("status");
}
