//! Commands and options. Every option can be given by an environment variable too.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::{IpNet, Ipv4Net};
use store::journal::Retention;
use web::limit::Rate;

use crate::layout::Layout;

/// A complete Infrastructure-as-a-Service cloud in one binary.
#[derive(Parser, Debug)]
#[command(version, about, max_term_width = 110)]
pub struct Cli {
    /// Where the cloud keeps everything that lasts.
    #[arg(long, global = true, env = "NACRE_STATE_DIR", default_value = "/var/lib/nacre")]
    state_dir: PathBuf,
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Where files are.
    pub fn layout(&self) -> Layout {
        Layout::new(&self.state_dir)
    }
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Start a whole cloud on this machine; run again, it says what is there and starts what is missing.
    Up(CloudOptions),
    /// Stop the cloud of this state directory, guests included. Nothing that lasts is lost.
    Down(DownOptions),
    /// Run only the control plane, in the foreground.
    Server(CloudOptions),
    /// Run only this host's agent, in the foreground.
    Agent(CloudOptions),
    /// Print a clouds.yaml for the OpenStack clients.
    Clouds,
    /// Compare the database with hosts, OVN and disks, both ways. Exits with 1 if they disagree.
    Doctor(DoctorOptions),
    /// For operators.
    #[command(subcommand)]
    Admin(AdminCommand),
}

/// For operators.
#[derive(Subcommand, Debug)]
pub enum AdminCommand {
    /// What is running, since when, and what it waits for.
    Flows(FlowOptions),
    /// Bring the database's tables up to date.
    Migrate(Box<CloudOptions>),
    /// Make new keys for tokens and stored secrets; tokens in use stay valid until they expire, secrets are sealed anew.
    RotateKeys,
    /// The hypervisor hosts and how they are.
    Hosts,
    /// The audit log.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Who may do what: the rules, and files that change them.
    #[command(subcommand)]
    Policy(PolicyCommand),
}

/// Who may do what.
#[derive(Subcommand, Debug)]
pub enum PolicyCommand {
    /// Print a policy.yaml with every rule's default, commented out, to start from.
    Sample,
    /// Print every rule, whom it admits and its check.
    List {
        /// With this file's changes.
        #[arg(long, env = "NACRE_POLICY_FILE")]
        policy_file: Option<PathBuf>,
    },
    /// Read a policy.yaml as the cloud would, and print what it changes. Exits with 1 if it is refused or has no effect.
    Check {
        /// The file.
        file: PathBuf,
    },
}

/// The audit log.
#[derive(Subcommand, Debug)]
pub enum AuditCommand {
    /// Prove that no entry was changed, removed or moved since it was sealed. Exits with 1 if one was.
    Verify(VerifyOptions),
}

/// What is proved.
#[derive(Args, Debug)]
pub struct VerifyOptions {
    /// `SEQ:HASH` as an earlier run printed it: proves besides that the chain was not cut short or written anew.
    #[arg(long)]
    pub expect: Option<String>,
    /// `sqlite:PATH` or `postgres://...`; default: the state directory's.
    #[arg(long, env = "NACRE_DATABASE")]
    pub database: Option<String>,
}

/// How a cloud is run.
#[derive(Args, Debug, Clone)]
pub struct CloudOptions {
    /// Address to listen on. Beyond loopback a certificate is needed.
    #[arg(long, env = "NACRE_LISTEN", default_value = "127.0.0.1")]
    pub listen: IpAddr,
    /// Port of all APIs.
    #[arg(long, env = "NACRE_PORT", default_value_t = 8800)]
    pub port: u16,
    /// What clients write before `/identity`, where it is not http(s)://LISTEN:PORT.
    #[arg(long, env = "NACRE_PUBLIC_URL")]
    pub public_url: Option<String>,
    /// PEM file of the certificate chain: turns TLS on.
    #[arg(long, env = "NACRE_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file of the certificate's key.
    #[arg(long, env = "NACRE_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// `sqlite:PATH` or `postgres://...`; default: a SQLite file in the state directory.
    #[arg(long, env = "NACRE_DATABASE")]
    pub database: Option<String>,
    /// Addresses of the external network; the first is the gateway, held by this host.
    #[arg(long, env = "NACRE_EXTERNAL_CIDR", default_value = "172.24.4.0/24")]
    pub external_cidr: Ipv4Net,
    /// Folder with OVS and OVN (`bin/`, `share/`), where the distribution's are too old. See scripts/setup.
    #[arg(long, env = "NACRE_OVS_DIR")]
    pub ovs_dir: Option<PathBuf>,
    /// What runs guests and networks.
    #[arg(long, env = "NACRE_DRIVER", default_value = "real")]
    pub driver: Driver,
    /// Hosts to pretend, with `--driver fake`.
    #[arg(long, default_value_t = 1)]
    pub fake_hosts: u16,
    /// Name of this host; default: the machine's.
    #[arg(long, env = "NACRE_HOST_NAME")]
    pub host_name: Option<String>,
    #[command(flatten)]
    pub logins: LoginOptions,
    #[command(flatten)]
    pub sso: SsoOptions,
    /// Networks that images may be imported from by web-download though they are none of the internet.
    #[arg(long, env = "NACRE_IMAGE_DOWNLOAD_NETWORKS", value_delimiter = ',')]
    pub image_download_networks: Vec<ipnet::IpNet>,
    #[command(flatten)]
    pub requests: RequestOptions,
    /// An oslo policy.yaml with the operator's own rules.
    #[arg(long, env = "NACRE_POLICY_FILE")]
    pub policy_file: Option<PathBuf>,
    /// Stay in the foreground and log there (for service managers).
    #[arg(long)]
    pub foreground: bool,
}

/// Letting in whom identity providers vouch for.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Single sign-on")]
pub struct SsoOptions {
    /// Address that a browser may bring a token to after a login at an identity provider, as dashboards ask for it:
    /// https://dashboard.example/auth/websso/. May be repeated.
    #[arg(long = "trusted-dashboard", env = "NACRE_TRUSTED_DASHBOARDS", value_delimiter = ',')]
    pub trusted_dashboards: Vec<String>,
    /// Network that is not public and may be asked all the same, where an address that somebody gave leads to it:
    /// 10.1.0.0/16. May be repeated.
    #[arg(long, env = "NACRE_OUTBOUND_ALLOW", value_delimiter = ',')]
    pub outbound_allow: Vec<ipnet::IpNet>,
}

/// How often somebody may ask, and how long is known what they did. Rates: `PER_SECOND:BURST`, or 0 for no limit.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Requests")]
pub struct RequestOptions {
    /// Requests of one user in one project.
    #[arg(long, env = "NACRE_RATE_OF_CALLERS", default_value = "1000:5000")]
    pub rate_of_callers: Rate,
    /// The same, for users with the role admin or service.
    #[arg(long, env = "NACRE_RATE_OF_ADMINS", default_value = "0")]
    pub rate_of_admins: Rate,
    /// Requests without a valid token, from one address that is not this machine's own.
    #[arg(long, env = "NACRE_RATE_OF_ADDRESSES", default_value = "100:1000")]
    pub rate_of_addresses: Rate,
    /// Logins that fail, from one address.
    #[arg(long, env = "NACRE_RATE_OF_FAILED_LOGINS", default_value = "1:60")]
    pub rate_of_failed_logins: Rate,
    /// Networks of proxies whose X-Forwarded-For says where requests come from.
    #[arg(long, env = "NACRE_TRUSTED_PROXIES", value_delimiter = ',')]
    pub trusted_proxies: Vec<IpNet>,
    /// Days for which events can be followed from.
    #[arg(long, env = "NACRE_EVENT_DAYS", default_value_t = 7)]
    pub event_days: u32,
    /// Days for which the audit log is kept.
    #[arg(long, env = "NACRE_AUDIT_DAYS", default_value_t = 365)]
    pub audit_days: u32,
}

impl RequestOptions {
    /// How long what happened is kept.
    pub fn retention(&self) -> Retention {
        let days = |days: u32| Duration::from_secs(u64::from(days) * 24 * 3600);
        Retention { events: days(self.event_days), audit: days(self.audit_days) }
    }
}

/// What secures logins, as Keystone names it.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Logins")]
pub struct LoginOptions {
    /// Failed logins in a row after which a user can't log in for a while; 0: never.
    #[arg(long, env = "NACRE_LOCKOUT_FAILURE_ATTEMPTS", default_value_t = 10)]
    pub lockout_failure_attempts: u32,
    /// How many seconds that is; 0: until an administrator sets another password.
    #[arg(long, env = "NACRE_LOCKOUT_DURATION", default_value_t = 60)]
    pub lockout_duration: u32,
    /// Of how many last passwords, the one in force among them, a user's new one must differ.
    #[arg(long, env = "NACRE_UNIQUE_LAST_PASSWORD_COUNT", default_value_t = 0,
        value_parser = clap::value_parser!(u32).range(..=24))]
    pub unique_last_password_count: u32,
    /// Days for which a user keeps a password that it chose.
    #[arg(long, env = "NACRE_MINIMUM_PASSWORD_AGE", default_value_t = 0)]
    pub minimum_password_age: u32,
    /// Days after which a password expires; 0: never.
    #[arg(long, env = "NACRE_PASSWORD_EXPIRES_DAYS", default_value_t = 0)]
    pub password_expires_days: u32,
    /// A regular expression that every password must match.
    #[arg(long, env = "NACRE_PASSWORD_REGEX")]
    pub password_regex: Option<String>,
    /// The same in words, for whoever is refused.
    #[arg(long, env = "NACRE_PASSWORD_REGEX_DESCRIPTION", requires = "password_regex")]
    pub password_regex_description: Option<String>,
    /// Passwords that an administrator chose are only good for choosing another.
    #[arg(long, env = "NACRE_CHANGE_PASSWORD_UPON_FIRST_USE")]
    pub change_password_upon_first_use: bool,
    /// Days without a login after which a user is disabled; 0: never.
    #[arg(long, env = "NACRE_DISABLE_USER_ACCOUNT_DAYS_INACTIVE", default_value_t = 0)]
    pub disable_user_account_days_inactive: u32,
    /// Tokens with a scope can't be exchanged for others.
    #[arg(long, env = "NACRE_NO_RESCOPE_SCOPED_TOKEN")]
    pub no_rescope_scoped_token: bool,
}

/// What runs guests and networks.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// QEMU, Open vSwitch, OVN.
    Real,
    /// Nothing: servers and networks exist in memory only. For benchmarks and API development.
    Fake,
}

/// How a cloud ends.
#[derive(Args, Debug)]
pub struct DownOptions {
    /// Delete the state directory too: servers, images, users, everything.
    #[arg(long)]
    pub purge: bool,
    /// Folder with OVS and OVN, where `nacre up` was told one.
    #[arg(long, env = "NACRE_OVS_DIR")]
    pub ovs_dir: Option<PathBuf>,
}

/// How the cloud is examined.
#[derive(Args, Debug)]
pub struct DoctorOptions {
    /// Repair what can be repaired safely.
    #[arg(long)]
    pub fix: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Which flows are shown.
#[derive(Args, Debug)]
pub struct FlowOptions {
    /// Also those that only wait to be woken.
    #[arg(long)]
    pub all: bool,
    /// `sqlite:PATH` or `postgres://...`; default: the state directory's.
    #[arg(long, env = "NACRE_DATABASE")]
    pub database: Option<String>,
}
