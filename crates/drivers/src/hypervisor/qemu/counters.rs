//! What is counted about a guest: by QEMU about its disks, by the kernel about its process and its taps.

use std::{fs, io, time::Duration};

use serde_json::Value;

use super::guest::{Guest, blocking};
use crate::hypervisor::{Counters, DiskCounters, GuestSpec, HypervisorError, NicCounters, Result};

/// What `/proc` counts processor time and starts in.
const TICKS_PER_SECOND: u64 = 100;

/// Reads them.
pub async fn read(guest: &Guest) -> Result<Counters> {
    let qmp = guest.qmp()?;
    let stats = qmp.execute("query-blockstats", Value::Null).await?;
    let seen = guest.observe().and_then(|seen| seen.pid);
    let (spec, pid) =
        guest.spec().zip(seen).ok_or_else(|| HypervisorError::Channel("the guest has just ended".to_owned()))?;
    let disks = stats.as_array().map(Vec::as_slice).unwrap_or_default().iter().filter_map(disk).collect();
    let read = blocking(move || of_kernel(&spec, pid));
    let counters = read.await.map_err(HypervisorError::io("read the counters of a guest"))?;
    Ok(Counters { disks, ..counters })
}

fn disk(device: &Value) -> Option<DiskCounters> {
    // Firmware is no disk.
    device["qdev"].as_str().filter(|path| path.contains("disk-"))?;
    let count = |name: &str| device["stats"][name].as_u64().unwrap_or(0);
    Some(DiskCounters {
        read_bytes: count("rd_bytes"),
        read_requests: count("rd_operations"),
        write_bytes: count("wr_bytes"),
        write_requests: count("wr_operations"),
        errors: count("failed_rd_operations") + count("failed_wr_operations"),
    })
}

fn of_kernel(spec: &GuestSpec, pid: u32) -> io::Result<Counters> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may have spaces.
    let fields: Vec<u64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    let field = |at: usize| fields.get(at - 3).copied().unwrap_or(0);
    let ticks = |ticks: u64| Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND);
    let since_boot = fs::read_to_string("/proc/uptime")?;
    let since_boot: f64 = since_boot.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0.0);
    let resident = fs::read_to_string(format!("/proc/{pid}/status"))?
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<u64>().ok());
    Ok(Counters {
        cpus: spec.vcpus,
        cpu_time: ticks(field(14) + field(15)),
        memory_mib: spec.memory_mib.into(),
        memory_used_mib: (resident.unwrap_or(0) / 1024).min(spec.memory_mib.into()),
        uptime: Duration::from_secs_f64(since_boot).saturating_sub(ticks(field(22))),
        disks: Vec::new(),
        nics: spec.nics.iter().map(|nic| of_tap(&nic.mac, &nic.tap)).collect(),
    })
}

/// What the tap sends, the guest receives.
fn of_tap(mac: &str, tap: &str) -> NicCounters {
    let count = |name: &str| {
        let text = fs::read_to_string(format!("/sys/class/net/{tap}/statistics/{name}"));
        text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    };
    NicCounters {
        mac: mac.to_owned(),
        rx_bytes: count("tx_bytes"),
        rx_packets: count("tx_packets"),
        rx_errors: count("tx_errors"),
        rx_dropped: count("tx_dropped"),
        tx_bytes: count("rx_bytes"),
        tx_packets: count("rx_packets"),
        tx_errors: count("rx_errors"),
        tx_dropped: count("rx_dropped"),
    }
}
