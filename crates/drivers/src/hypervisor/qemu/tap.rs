//! Opening NICs' taps for QEMU, which itself may not: it runs as a user without rights and gets open descriptors, at its
//! start by inheritance, later over the QMP socket.

use std::{io, os::fd::OwnedFd};

use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};

use super::guest::blocking;
use crate::{
    hypervisor::{GuestNic, HypervisorError, Result},
    network::sys,
};

/// Opens the NIC's tap, which must exist.
pub async fn open(nic: &GuestNic) -> Result<OwnedFd> {
    let (name, vnet_hdr) = (nic.tap.clone(), nic.vnet_hdr);
    blocking(move || open_existing(&name, vnet_hdr)).await.map_err(HypervisorError::io(format!("open tap {}", nic.tap)))
}

fn open_existing(name: &str, vnet_hdr: bool) -> io::Result<OwnedFd> {
    // Opening alone would make one that is connected to nothing.
    name_to_index(&socket(AddressFamily::INET, SocketType::DGRAM, None)?, name)?;
    sys::open_tap(name, vnet_hdr)
}
