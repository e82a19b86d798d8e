//! What a hypervisor counts about a guest, as Nova shows it: as its driver likes until 2.47, uniformly from 2.48 on.

use hostlink::Diagnostics;
use serde_json::{Map, Value, json};
use store::compute::servers::{Power, Server};
use web::Version;

/// The document.
pub fn shape(server: &Server, found: &Diagnostics, version: Version) -> Value {
    if version < Version(2, 48) { older(found) } else { newer(server, found) }
}

fn older(found: &Diagnostics) -> Value {
    let mut shown = Map::new();
    let mut put = |name: String, value: u64| {
        shown.insert(name, json!(value));
    };
    put("cpu0_time".to_owned(), found.cpu_time_nanos);
    put("memory".to_owned(), found.memory_mib * 1024);
    for (at, disk) in found.disks.iter().enumerate() {
        let name = format!("vd{}", char::from(b'a' + u8::try_from(at % 26).unwrap_or(0)));
        put(format!("{name}_read_req"), disk.read_requests);
        put(format!("{name}_read"), disk.read_bytes);
        put(format!("{name}_write_req"), disk.write_requests);
        put(format!("{name}_write"), disk.write_bytes);
        put(format!("{name}_errors"), disk.errors);
    }
    for (at, nic) in found.nics.iter().enumerate() {
        let name = format!("vnet{at}");
        put(format!("{name}_rx"), nic.rx_bytes);
        put(format!("{name}_rx_packets"), nic.rx_packets);
        put(format!("{name}_rx_errors"), nic.rx_errors);
        put(format!("{name}_rx_drop"), nic.rx_dropped);
        put(format!("{name}_tx"), nic.tx_bytes);
        put(format!("{name}_tx_packets"), nic.tx_packets);
        put(format!("{name}_tx_errors"), nic.tx_errors);
        put(format!("{name}_tx_drop"), nic.tx_dropped);
    }
    Value::Object(shown)
}

fn newer(server: &Server, found: &Diagnostics) -> Value {
    let state = match server.observed.power {
        Power::Running => "running",
        Power::Paused => "paused",
        Power::Crashed => "crashed",
        Power::Suspended => "suspended",
        Power::Shutdown => "shutdown",
        Power::Unknown | Power::Absent => "pending",
    };
    let cpus: Vec<Value> = (0..found.cpus)
        .map(|id| json!({"id": id, "time": found.cpu_time_nanos / u64::from(found.cpus.max(1)), "utilisation": null}))
        .collect();
    let disks: Vec<Value> = found
        .disks
        .iter()
        .map(|disk| {
            json!({
                "read_bytes": disk.read_bytes, "read_requests": disk.read_requests, "write_bytes": disk.write_bytes,
                "write_requests": disk.write_requests, "errors_count": disk.errors,
            })
        })
        .collect();
    let nics: Vec<Value> = found
        .nics
        .iter()
        .map(|nic| {
            json!({
                "mac_address": nic.mac, "rx_octets": nic.rx_bytes, "rx_packets": nic.rx_packets,
                "rx_errors": nic.rx_errors, "rx_drop": nic.rx_dropped, "rx_rate": null, "tx_octets": nic.tx_bytes,
                "tx_packets": nic.tx_packets, "tx_errors": nic.tx_errors, "tx_drop": nic.tx_dropped, "tx_rate": null,
            })
        })
        .collect();
    json!({
        "state": state, "driver": "libvirt", "hypervisor": "kvm", "hypervisor_os": "linux",
        "uptime": found.uptime_seconds, "config_drive": server.config_drive,
        "num_cpus": cpus.len(), "num_nics": nics.len(), "num_disks": disks.len(),
        "memory_details": {"maximum": found.memory_mib, "used": found.memory_used_mib},
        "cpu_details": cpus, "disk_details": disks, "nic_details": nics,
    })
}
