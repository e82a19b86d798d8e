//! What can't be had without `unsafe`: `ioctl`s on `/dev/net/tun` and sockets, and `unshare`; and
//! tokio's registration of a descriptor. Nothing else in the network driver is unsafe.

#![allow(unsafe_code, reason = "ioctls, unshare and AsyncFd; each states why it is sound")]

use std::{
    fs::OpenOptions,
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    ioctl::{IntegerSetter, Opcode, Setter, Updater, ioctl},
    net::{AddressFamily, SocketType, socket},
    thread::{UnshareFlags, unshare_unsafe},
};
use tokio::io::unix::AsyncFd;

const TUNSETIFF: Opcode = 0x4004_54ca;
const TUNSETPERSIST: Opcode = 0x4004_54cb;
const TUNSETOWNER: Opcode = 0x4004_54cc;
const SIOCETHTOOL: Opcode = 0x8946;
const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;
const ETHTOOL_STXCSUM: u32 = 0x17;
const NAME_BYTES: usize = 16;

/// `struct ifreq` with the member `ifr_flags` of its union.
#[repr(C)]
struct FlagsRequest {
    name: [u8; NAME_BYTES],
    flags: u16,
    rest: [u8; 22],
}

/// `struct ifreq` with the member `ifr_data` of its union.
#[repr(C)]
struct DataRequest {
    name: [u8; NAME_BYTES],
    data: *mut EthtoolValue,
    rest: [u8; 16],
}

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Opens a tap, to read and write its packets. Makes one that goes with the descriptor if there is none of that name.
pub(crate) fn open_tap(name: &str, vnet_hdr: bool) -> io::Result<OwnedFd> {
    let tun = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    let flags = IFF_TAP | IFF_NO_PI | if vnet_hdr { IFF_VNET_HDR } else { 0 };
    let request = FlagsRequest { name: terminated(name)?, flags, rest: [0; 22] };
    // SAFETY: TUNSETIFF reads a `struct ifreq`, which `FlagsRequest` is in size and layout; it keeps no pointer.
    unsafe { ioctl(tun.as_fd(), Setter::<TUNSETIFF, FlagsRequest>::new(request))? };
    Ok(tun.into())
}

/// Makes a tap that stays when its maker is gone. A tap of that name that nobody holds is taken over as it is.
pub(super) fn make_tap(name: &str, owner_uid: Option<u32>) -> io::Result<()> {
    let tun = open_tap(name, false)?;
    if let Some(uid) = owner_uid {
        // SAFETY: TUNSETOWNER takes the user id as its argument itself and touches no memory.
        unsafe { ioctl(tun.as_fd(), IntegerSetter::<TUNSETOWNER>::new_usize(uid as usize))? };
    }
    // SAFETY: TUNSETPERSIST takes a flag as its argument itself and touches no memory.
    unsafe { ioctl(tun.as_fd(), IntegerSetter::<TUNSETPERSIST>::new_usize(1))? };
    Ok(())
}

/// Lets the kernel finish checksums itself before packets leave through this device: OVS's userspace datapath takes
/// them as they are.
pub(super) fn finish_checksums(device: &str) -> io::Result<()> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    let mut value = EthtoolValue { command: ETHTOOL_STXCSUM, data: 0 };
    let mut request = DataRequest { name: terminated(device)?, data: &raw mut value, rest: [0; 16] };
    // SAFETY: SIOCETHTOOL reads and writes a `struct ifreq`, which `DataRequest` is in size and layout, and the
    // `struct ethtool_value` it points to; both live until the call returns and nothing else uses them meanwhile.
    unsafe { ioctl(socket.as_fd(), Updater::<SIOCETHTOOL, DataRequest>::new(&mut request))? };
    Ok(())
}

/// Moves the calling thread into a new network namespace.
pub(super) fn leave_network_namespace() -> io::Result<()> {
    // SAFETY: only UnshareFlags::FILES can take descriptors away from other threads, and it is not asked for.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET)? };
    Ok(())
}

/// Hands a descriptor that the process owns to the runtime, to wait on.
pub(crate) fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and the same until it is dropped, and the `AsyncFd` owns it from here on.
    unsafe { AsyncFd::register(descriptor) }.map_err(Into::into)
}

fn terminated(name: &str) -> io::Result<[u8; NAME_BYTES]> {
    let mut bytes = [0; NAME_BYTES];
    match bytes.get_mut(..name.len()) {
        Some(place) if name.len() < NAME_BYTES => place.copy_from_slice(name.as_bytes()),
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name}: too long for an interface"))),
    }
    Ok(bytes)
}
