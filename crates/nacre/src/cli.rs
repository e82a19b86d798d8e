//! Commands and options. Every option can be given by an environment variable too.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::Ipv4Net;

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
    Migrate(CloudOptions),
    /// Make a new key for tokens; the ones in use stay valid until they expire.
    RotateKeys,
    /// The hypervisor hosts and how they are.
    Hosts,
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
    /// An oslo policy.yaml with the operator's own rules.
    #[arg(long, env = "NACRE_POLICY_FILE")]
    pub policy_file: Option<PathBuf>,
    /// Stay in the foreground and log there (for service managers).
    #[arg(long)]
    pub foreground: bool,
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
