//! What the daemon is told when it starts.

use std::{path::PathBuf, sync::Arc, time::Duration};

use drivers::{disk::Disks, hypervisor::Hypervisor, network::ChassisPorts};
use hostlink::client::Endpoint;
use model::Clock;

/// Where things are and how this host is called.
#[derive(Clone, Debug)]
pub struct Config {
    /// The agent keeps its files in `agent/` below it.
    pub state_dir: PathBuf,
    /// The host's name, as `OS-EXT-SRV-ATTR:host` shows it.
    pub host_name: String,
    /// The control plane.
    pub endpoint: Endpoint,
    /// The host's name in OVN's southbound database.
    pub chassis: String,
    /// The host's addresses, for operators and tunnels.
    pub addresses: Vec<String>,
    /// Memory in MiB that servers may use; `None`: all of the host's.
    pub memory_mib: Option<u64>,
    /// Virtual processors that servers may use; `None`: as many as the host has.
    pub vcpus: Option<u32>,
    /// Time.
    pub clock: Clock,
    /// Deadlines and sizes.
    pub limits: Limits,
}

/// What the host's work is done with.
#[derive(Clone)]
pub struct Drivers {
    /// Guests.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// Images, root disks, config drives.
    pub disks: Arc<dyn Disks>,
    /// Ports and metadata namespaces.
    pub network: Arc<dyn ChassisPorts>,
}

/// Deadlines and sizes. The defaults are for production.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Servers that are brought up at the same time.
    pub starts: usize,
    /// First pause after a failure; doubles with each further one...
    pub retry_first: Duration,
    /// ...up to this.
    pub retry_longest: Duration,
    /// First pause before connecting again; doubles with each further failure...
    pub reconnect_first: Duration,
    /// ...up to this.
    pub reconnect_longest: Duration,
    /// A report that says only how far the work is may wait so long for a better one.
    pub progress_delay: Duration,
    /// A report that is not acknowledged in this time, or was not accepted, is sent again.
    pub report_again: Duration,
    /// How long the end of the process waits for steps that are under way.
    pub shutdown: Duration,
    /// How often cached images are looked through...
    pub image_sweep: Duration,
    /// ...and dropped when no server has used them for so long.
    pub image_unused: Duration,
    /// The port that metadata services listen on.
    pub metadata_tcp_port: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            starts: 8,
            retry_first: Duration::from_millis(500),
            retry_longest: Duration::from_secs(60),
            reconnect_first: Duration::from_millis(100),
            reconnect_longest: Duration::from_secs(5),
            progress_delay: Duration::from_millis(300),
            report_again: Duration::from_secs(10),
            shutdown: Duration::from_secs(5),
            image_sweep: Duration::from_secs(60 * 60),
            image_unused: Duration::from_secs(24 * 60 * 60),
            metadata_tcp_port: 80,
        }
    }
}
