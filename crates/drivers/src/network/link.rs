//! Network devices of one namespace over netlink.

use std::{io, os::fd::AsRawFd};

use futures_util::TryStreamExt;
use ipnet::IpNet;
use model::addr::Mac;
use rtnetlink::{
    Error, Handle, LinkUnspec, LinkVeth,
    packet_core::ErrorMessage,
    packet_route::{
        address::{AddressAttribute, AddressMessage},
        link::{LinkAttribute, LinkMessage},
    },
};

use super::{NetworkError, Result};

const EEXIST: i32 = -17;
const ENODEV: i32 = -19;

/// A netlink socket. It belongs to the namespace of the thread that opened it, whoever uses it later.
#[derive(Clone)]
pub(super) struct Links(Handle);

impl Links {
    /// Opens a socket in the calling thread's namespace. Needs a runtime.
    pub(super) fn open() -> io::Result<Self> {
        let (connection, handle, _unasked) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self(handle))
    }

    async fn find(&self, name: &str) -> Result<Option<LinkMessage>> {
        let answer = self.0.link().get().match_name(name.to_owned()).execute().try_next().await;
        match answer {
            Ok(link) => Ok(link),
            Err(Error::NetlinkError(error)) if code(&error) == ENODEV => Ok(None),
            Err(error) => Err(failed("look for the device", name, &error)),
        }
    }

    async fn index(&self, name: &str) -> Result<u32> {
        match self.find(name).await? {
            Some(link) => Ok(link.header.index),
            None => Err(NetworkError::System { what: format!("find the device {name}"), why: "there is none".into() }),
        }
    }

    /// Whether there is a device of that name.
    pub(super) async fn exists(&self, name: &str) -> Result<bool> {
        Ok(self.find(name).await?.is_some())
    }

    /// Sets MTU and MAC where given and different, and brings the device up.
    pub(super) async fn bring_up(&self, name: &str, mtu: Option<u32>, mac: Option<Mac>) -> Result<()> {
        let Some(link) = self.find(name).await? else { return self.index(name).await.map(drop) };
        let mut message = LinkUnspec::new_with_index(link.header.index).up();
        for attribute in &link.attributes {
            match (attribute, mtu, mac) {
                (LinkAttribute::Mtu(now), Some(wanted), _) if *now != wanted => message = message.mtu(wanted),
                (LinkAttribute::Address(now), _, Some(wanted)) if now[..] != wanted.0 => {
                    message = message.address(wanted.0.to_vec());
                }
                _ => {}
            }
        }
        let done = self.0.link().set(message.build()).execute().await;
        done.map_err(|error| failed("bring up the device", name, &error))
    }

    /// Adds an address unless it is there.
    pub(super) async fn ensure_address(&self, name: &str, address: IpNet) -> Result<()> {
        let index = self.index(name).await?;
        let added = self.0.address().add(index, address.addr(), address.prefix_len()).execute().await;
        match added {
            Err(Error::NetlinkError(error)) if code(&error) == EEXIST => Ok(()),
            Err(error) => Err(failed("add an address to the device", name, &error)),
            Ok(()) => Ok(()),
        }
    }

    /// Makes these the addresses of a device; those that the kernel gives it itself (link-local) stay.
    pub(super) async fn set_addresses(&self, name: &str, wanted: &[IpNet]) -> Result<()> {
        let index = self.index(name).await?;
        let there = self.0.address().get().set_link_index_filter(index).execute();
        let there: Vec<AddressMessage> =
            there.try_collect().await.map_err(|error| failed("list the addresses of", name, &error))?;
        for message in there {
            let ip = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(ip) => Some(*ip),
                _ => None,
            });
            let Some(net) = ip.and_then(|ip| IpNet::new(ip, message.header.prefix_len).ok()) else { continue };
            let kernels = matches!(net, IpNet::V6(v6) if v6.addr().is_unicast_link_local());
            if !kernels && !wanted.contains(&net) {
                let removed = self.0.address().del(message).execute().await;
                removed.map_err(|error| failed("take an address from the device", name, &error))?;
            }
        }
        for address in wanted {
            self.ensure_address(name, *address).await?;
        }
        Ok(())
    }

    /// The names of this namespace's devices that begin so.
    pub(super) async fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let links = self.0.link().get().execute();
        let links: Vec<LinkMessage> = links.try_collect().await.map_err(|error| failed("list", "devices", &error))?;
        let name = |attribute: LinkAttribute| match attribute {
            LinkAttribute::IfName(name) => Some(name),
            _ => None,
        };
        let names = links.into_iter().filter_map(|link| link.attributes.into_iter().find_map(name));
        Ok(names.filter(|name| name.starts_with(prefix)).collect())
    }

    /// Makes a pair of virtual Ethernet devices, the second one inside the namespace of that file.
    pub(super) async fn make_veth(&self, name: &str, peer: &str, namespace: &std::fs::File) -> Result<()> {
        let made = self.0.link().add(LinkVeth::new(name, peer).build()).execute().await;
        made.map_err(|error| failed("make the veth", name, &error))?;
        let message = LinkUnspec::new_with_name(peer).setns_by_fd(namespace.as_raw_fd()).build();
        let moved = self.0.link().set(message).execute().await;
        moved.map_err(|error| failed("move the device", peer, &error))
    }

    /// Removes a device if it is there; with one end of a veth goes the other.
    pub(super) async fn remove(&self, name: &str) -> Result<()> {
        let Some(link) = self.find(name).await? else { return Ok(()) };
        match self.0.link().del(link.header.index).execute().await {
            Err(Error::NetlinkError(error)) if code(&error) == ENODEV => Ok(()),
            Err(error) => Err(failed("remove the device", name, &error)),
            Ok(()) => Ok(()),
        }
    }
}

fn code(error: &ErrorMessage) -> i32 {
    error.code.map_or(0, std::num::NonZeroI32::get)
}

fn failed(what: &str, name: &str, error: &Error) -> NetworkError {
    NetworkError::System { what: format!("{what} {name}"), why: error.to_string() }
}
