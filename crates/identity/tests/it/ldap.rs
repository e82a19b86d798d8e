//! Domains of a directory, against a real slapd.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testkit::{Client, Response};

use crate::{Cloud, names, on_each_db, token_of};

const ADMIN_DN: &str = "cn=admin,dc=corp,dc=test";
const ADMIN_PASSWORD: &str = "the directory's";

/// A directory of its own, gone with the test.
struct Slapd {
    process: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Drop for Slapd {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Slapd {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        certificates(folder.path());
        std::fs::create_dir(path("db")).unwrap();
        let here = folder.path().display();
        let conf = format!(
            "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n\
             include /etc/ldap/schema/inetorgperson.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n\
             pidfile {here}/pid\nTLSCACertificateFile {here}/ca.pem\nTLSCertificateFile {here}/cert.pem\n\
             TLSCertificateKeyFile {here}/key.pem\nTLSVerifyClient never\nsizelimit size.soft=40 size.hard=40 size.prtotal=unlimited\n\
             database mdb\nmaxsize 10485760\nsuffix dc=corp,dc=test\nrootdn {ADMIN_DN}\nrootpw \"{ADMIN_PASSWORD}\"\n\
             directory {here}/db\n\
             limits dn.exact=\"cn=reader,dc=corp,dc=test\" size.soft=40 size.hard=40 size.pr=40 size.prtotal=unlimited\n\
             access to attrs=userPassword by anonymous auth by * none\naccess to * by users read by anonymous auth\n"
        );
        std::fs::write(path("slapd.conf"), conf).unwrap();
        std::fs::write(path("people.ldif"), people()).unwrap();
        let added = Command::new("/usr/sbin/slapadd")
            .arg("-f")
            .arg(path("slapd.conf"))
            .arg("-l")
            .arg(path("people.ldif"))
            .output();
        let added = added.expect("slapd is among the packages of scripts/packages");
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
        // The port is free when it is asked for; a rival would have to take it in between.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new("/usr/sbin/slapd")
            .args(["-d", "0", "-h", &format!("ldap://127.0.0.1:{port}/")])
            .arg("-f")
            .arg(path("slapd.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "slapd does not come up");
            std::thread::yield_now();
        }
        Self { process, folder, port }
    }

    fn modify(&self, ldif: &str) {
        use std::io::Write;
        let mut tool = Command::new("ldapmodify")
            .args(["-x", "-H", &format!("ldap://127.0.0.1:{}", self.port), "-D", ADMIN_DN, "-w", ADMIN_PASSWORD])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        tool.stdin.take().unwrap().write_all(ldif.as_bytes()).unwrap();
        assert!(tool.wait().unwrap().success(), "{ldif}");
    }

    fn options(&self) -> Value {
        json!({
            "url": format!("ldap://127.0.0.1:{}", self.port), "user": "cn=reader,dc=corp,dc=test", "password": "reads",
            "suffix": "dc=corp,dc=test", "query_scope": "sub", "page_size": 10,
            "user_tree_dn": "ou=Users,dc=corp,dc=test", "user_id_attribute": "uid", "user_name_attribute": "uid",
            "user_filter": "(!(employeeType=robot))", "user_enabled_attribute": "employeeType",
            "user_enabled_invert": true, "user_additional_attribute_mapping": ["title:position"],
            "group_tree_dn": "ou=UserGroups,dc=corp,dc=test", "group_name_attribute": "cn",
        })
    }
}

fn certificates(folder: &Path) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["a test's authority".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.join("ca.pem"), ca.pem()).unwrap();
    std::fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

/// mia and otto, who is locked, a robot, and thirty others; mia is in staff.
fn people() -> String {
    let mut ldif = "dn: dc=corp,dc=test\nobjectClass: dcObject\nobjectClass: organization\no: corp\ndc: corp\n\n\
        dn: cn=reader,dc=corp,dc=test\nobjectClass: person\ncn: reader\nsn: reader\nuserPassword: reads\n\n\
        dn: ou=Users,dc=corp,dc=test\nobjectClass: organizationalUnit\nou: Users\n\n\
        dn: ou=UserGroups,dc=corp,dc=test\nobjectClass: organizationalUnit\nou: UserGroups\n\n\
        dn: ou=Elsewhere,dc=corp,dc=test\nobjectClass: organizationalUnit\nou: Elsewhere\n\n"
        .to_owned();
    let mut user = |uid: &str, tree: &str, more: &str| {
        ldif.push_str(&format!(
            "dn: uid={uid},ou={tree},dc=corp,dc=test\nobjectClass: inetOrgPerson\nuid: {uid}\ncn: {uid} cn\nsn: {uid}\n\
             userPassword: {uid}'s\nmail: {uid}@corp.test\n{more}\n"
        ));
    };
    user("mia", "Users", "title: captain\n");
    user("otto", "Users", "employeeType: TRUE\n");
    user("r2", "Users", "employeeType: robot\n");
    user("far", "Elsewhere", "");
    for number in 0..30 {
        user(&format!("user{number:02}"), "Users", "");
    }
    ldif.push_str(
        "dn: uid=alias,ou=Users,dc=corp,dc=test\nobjectClass: alias\nobjectClass: extensibleObject\nuid: alias\n\
         aliasedObjectName: uid=far,ou=Elsewhere,dc=corp,dc=test\n\n\
         dn: cn=staff,ou=UserGroups,dc=corp,dc=test\nobjectClass: groupOfNames\ncn: staff\ndescription: those who work\n\
         member: uid=mia,ou=Users,dc=corp,dc=test\nmember: uid=otto,ou=Users,dc=corp,dc=test\n\n\
         dn: cn=others,ou=UserGroups,dc=corp,dc=test\nobjectClass: groupOfNames\ncn: others\n\
         member: uid=user01,ou=Users,dc=corp,dc=test\n",
    );
    ldif
}

struct Corp {
    cloud: Cloud,
    admin: Client,
    slapd: Slapd,
    domain: String,
}

impl Corp {
    async fn new(cloud: Cloud) -> Self {
        let slapd = tokio::task::spawn_blocking(Slapd::start).await.unwrap();
        let admin = cloud.admin().await;
        let made = admin.post("/identity/v3/domains", json!({ "domain": { "name": "corp" } })).await.expect(201);
        let domain = crate::id_in(&made, "domain");
        let this = Self { cloud, admin, slapd, domain };
        this.configure(json!({})).await;
        this
    }

    /// The domain's settings, changed.
    async fn configure(&self, more: Value) {
        let mut options = self.slapd.options();
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let path = format!("/identity/v3/domains/{}/config", self.domain);
        let config = json!({ "config": { "identity": { "driver": "ldap" }, "ldap": options } });
        let set = self.admin.put(&path, config).await;
        assert!(set.status.is_success(), "{}", set.json);
    }

    fn who(&self, name: &str, password: &str) -> Value {
        json!({ "methods": ["password"],
            "password": { "user": { "name": name, "domain": { "id": self.domain }, "password": password } } })
    }

    async fn log_in(&self, name: &str, password: &str) -> Response {
        self.cloud.log_in(&self.who(name, password), None).await
    }

    async fn users(&self, more: &str) -> Vec<String> {
        let path = format!("/identity/v3/users?domain_id={}{more}", self.domain);
        names(&self.admin.get(&path).await.expect(200), "users")
    }
}

fn public_id(domain: &str, kind: &str, local: &str) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(Sha256::digest(format!("{domain}{kind}{local}")))
}

#[tokio::test]
async fn logins() {
    on_each_db(|cloud| async move {
        let corp = Corp::new(cloud).await;
        let mia = corp.log_in("mia", "mia's").await.expect(201);
        let user = &mia.json["token"]["user"];
        assert_eq!(user["id"], json!(public_id(&corp.domain, "user", "mia")));
        assert_eq!((&user["name"], &user["domain"]["name"]), (&json!("mia"), &json!("corp")));
        assert!(token_of(&mia).len() <= 300);
        // By id too, once it is known.
        let by_id =
            json!({ "methods": ["password"], "password": { "user": { "id": user["id"], "password": "mia's" } } });
        corp.cloud.log_in(&by_id, None).await.expect(201);
        // Wrong, empty (which a bind takes for nobody), locked, filtered out, elsewhere, nobody; and what would be filters.
        let refused = [
            ("mia", "other"),
            ("mia", ""),
            ("otto", "otto's"),
            ("r2", "r2's"),
            ("far", "far's"),
            ("nobody", "x"),
            ("*", "mia's"),
            ("mi*", "mia's"),
            ("mia)(uid=*", "mia's"),
            ("*)(|(uid=mia", "mia's"),
            ("mia\\2a", "mia's"),
            ("mia\0", "mia's"),
        ];
        for (name, password) in refused {
            corp.log_in(name, password).await.expect(401);
        }
        // The directory's own administrators are not in the tree.
        corp.log_in("admin", ADMIN_PASSWORD).await.expect(401);
    })
    .await;
}

#[tokio::test]
async fn users_and_groups_are_read() {
    on_each_db(|cloud| async move {
        let corp = Corp::new(cloud).await;
        // More than the server gives at once: pages.
        let all = corp.users("").await;
        assert_eq!((all.len(), all[0].as_str()), (32, "mia"), "{all:?}");
        assert_eq!(corp.users("&name=otto").await, ["otto"]);
        assert_eq!(corp.users("&name=*").await, [""; 0]);
        let path = format!("/identity/v3/users/{}", public_id(&corp.domain, "user", "mia"));
        let mia = corp.admin.get(&path).await.expect(200).json["user"].clone();
        assert_eq!(
            (&mia["email"], &mia["position"], &mia["enabled"]),
            (&json!("mia@corp.test"), &json!("captain"), &json!(true))
        );
        let otto = format!("/identity/v3/users/{}", public_id(&corp.domain, "user", "otto"));
        assert_eq!(corp.admin.get(&otto).await.expect(200).json["user"]["enabled"], false);
        let groups = corp.admin.get(&format!("/identity/v3/groups?domain_id={}", corp.domain)).await.expect(200);
        assert_eq!(names(&groups, "groups"), ["others", "staff"]);
        let staff = format!("/identity/v3/groups/{}", public_id(&corp.domain, "group", "staff"));
        assert_eq!(corp.admin.get(&staff).await.expect(200).json["group"]["description"], "those who work");
        assert_eq!(names(&corp.admin.get(&format!("{staff}/users")).await.expect(200), "users"), ["mia", "otto"]);
        assert_eq!(names(&corp.admin.get(&format!("{path}/groups")).await.expect(200), "groups"), ["staff"]);
        corp.admin.get(&format!("{staff}/users/{}", public_id(&corp.domain, "user", "mia"))).await.expect(204);
        // Others see nothing of it.
        let demo = corp.cloud.demo().await;
        demo.get(&path).await.expect(403);
        demo.get(&staff).await.expect(403);
        // What changes there has changed here.
        corp.slapd
            .modify("dn: uid=mia,ou=Users,dc=corp,dc=test\nchangetype: modify\nreplace: mail\nmail: new@corp.test\n");
        assert_eq!(corp.admin.get(&path).await.expect(200).json["user"]["email"], "new@corp.test");
        corp.slapd.modify("dn: uid=user29,ou=Users,dc=corp,dc=test\nchangetype: delete\n");
        assert_eq!(corp.users("").await.len(), 31);
        corp.admin.get(&format!("/identity/v3/users/{}", public_id(&corp.domain, "user", "user29"))).await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn roles_of_users_and_groups() {
    on_each_db(|cloud| async move {
        let corp = Corp::new(cloud).await;
        corp.users("").await;
        corp.admin.get(&format!("/identity/v3/groups?domain_id={}", corp.domain)).await.expect(200);
        let project = crate::make_project(&corp.admin, "ship").await;
        let role = crate::role_id(&corp.admin, "member").await;
        let staff = public_id(&corp.domain, "group", "staff");
        corp.admin
            .put(&format!("/identity/v3/projects/{project}/groups/{staff}/roles/{role}"), Value::Null)
            .await
            .expect(204);
        let scope = json!({ "project": { "id": project } });
        let token = token_of(&corp.cloud.log_in(&corp.who("mia", "mia's"), Some(scope.clone())).await.expect(201));
        let mia = corp.cloud.anyone.clone().token(&token);
        mia.get("/identity/v3/auth/catalog").await.expect(200);
        corp.cloud.log_in(&corp.who("user02", "user02's"), Some(scope.clone())).await.expect(401);
        let user = public_id(&corp.domain, "user", "user02");
        corp.admin
            .put(&format!("/identity/v3/projects/{project}/users/{user}/roles/{role}"), Value::Null)
            .await
            .expect(204);
        corp.cloud.log_in(&corp.who("user02", "user02's"), Some(scope)).await.expect(201);
        // Out of the group there: the token ends once the directory is asked again.
        corp.slapd.modify(
            "dn: cn=staff,ou=UserGroups,dc=corp,dc=test\nchangetype: modify\ndelete: member\n\
             member: uid=mia,ou=Users,dc=corp,dc=test\n",
        );
        corp.cloud.db.clock().advance(identity::ldap::mirror::ASK_AGAIN_AFTER + Duration::from_secs(1));
        let (_, other) = crate::server(corp.cloud.db.reconnect().await, corp.cloud.master.clone()).await;
        other.token(&token).get("/identity/v3/auth/catalog").await.expect(401);
    })
    .await;
}

#[tokio::test]
async fn nothing_is_written() {
    on_each_db(|cloud| async move {
        let corp = Corp::new(cloud).await;
        corp.users("").await;
        corp.admin.get(&format!("/identity/v3/groups?domain_id={}", corp.domain)).await.expect(200);
        let user = format!("/identity/v3/users/{}", public_id(&corp.domain, "user", "mia"));
        let group = format!("/identity/v3/groups/{}", public_id(&corp.domain, "group", "staff"));
        let member = format!("{group}/users/{}", public_id(&corp.domain, "user", "user03"));
        let new = json!({ "name": "new", "domain_id": corp.domain });
        corp.admin.post("/identity/v3/users", json!({ "user": new })).await.expect(403);
        corp.admin.post("/identity/v3/groups", json!({ "group": new })).await.expect(403);
        corp.admin.patch(&user, json!({ "user": { "email": "x" } })).await.expect(403);
        corp.admin.patch(&group, json!({ "group": { "description": "x" } })).await.expect(403);
        corp.admin.delete(&user).await.expect(403);
        corp.admin.delete(&group).await.expect(403);
        corp.admin.put(&member, Value::Null).await.expect(403);
        corp.admin.delete(&member).await.expect(403);
        let change = json!({ "user": { "original_password": "mia's", "password": "another" } });
        corp.cloud.anyone.post(&format!("{user}/password"), change).await.expect(403);
        corp.log_in("mia", "mia's").await.expect(201);
    })
    .await;
}

#[tokio::test]
async fn tls_aliases_pages_and_what_is_wrong() {
    on_each_db(|cloud| async move {
        let corp = Corp::new(cloud).await;
        let ca = corp.slapd.folder.path().join("ca.pem").display().to_string();
        corp.configure(json!({ "use_tls": true, "tls_cacertfile": ca })).await;
        corp.log_in("mia", "mia's").await.expect(201);
        // An authority that the system doesn't know.
        corp.configure(json!({ "use_tls": true })).await;
        corp.log_in("mia", "mia's").await.expect(503);
        corp.configure(json!({ "use_tls": true, "tls_req_cert": "never" })).await;
        corp.log_in("mia", "mia's").await.expect(201);
        corp.configure(json!({ "alias_dereferencing": "always" })).await;
        assert_eq!(corp.users("&name=far").await, ["far"]);
        corp.configure(json!({ "use_pool": false, "query_scope": "one" })).await;
        corp.log_in("mia", "mia's").await.expect(201);
        corp.configure(json!({ "password": "wrong" })).await;
        corp.log_in("mia", "mia's").await.expect(503);
        corp.configure(json!({ "query_scope": "everywhere" })).await;
        corp.log_in("mia", "mia's").await.expect(503);
        // The first server is down, the second is asked.
        let urls = format!("ldap://127.0.0.1:1,ldap://127.0.0.1:{}", corp.slapd.port);
        corp.configure(json!({ "url": urls })).await;
        corp.log_in("mia", "mia's").await.expect(201);
        corp.configure(json!({ "url": "ldap://127.0.0.1:1" })).await;
        corp.log_in("mia", "mia's").await.expect(503);
    })
    .await;
}
