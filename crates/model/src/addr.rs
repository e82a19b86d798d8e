//! MAC and IP arithmetic.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::IpNet;

/// A MAC address, shown as OpenStack shows it: `fa:16:3e:00:00:01`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The prefix of every address that Nacre makes: Neutron's own default, so that tools know it.
    pub const PREFIX: [u8; 3] = [0xfa, 0x16, 0x3e];

    /// A random address with [`Mac::PREFIX`].
    pub fn random() -> Self {
        let [a, b, c] = rand::random::<[u8; 3]>();
        let [x, y, z] = Self::PREFIX;
        Self([x, y, z, a, b, c])
    }

    /// The IPv6 address that a guest with this MAC gives itself in a network of 64 bits (modified EUI-64).
    pub fn eui64(self, network: Ipv6Addr) -> Ipv6Addr {
        let [a, b, c, d, e, g] = self.0;
        let host = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, g]);
        Ipv6Addr::from((u128::from(network) >> 64 << 64) | u128::from(host))
    }

    /// The link-local IPv6 address of an interface with this MAC.
    pub fn link_local(self) -> Ipv6Addr {
        self.eui64(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().ok_or(())?;
            if part.len() != 2 {
                return Err(());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| ())?;
        }
        if parts.next().is_some() || bytes[0] & 1 == 1 {
            return Err(());
        }
        Ok(Self(bytes))
    }
}

/// A 16-byte hex form that sorts as the address does, IPv4 mapped into IPv6: what the database orders by.
pub fn sortable(ip: IpAddr) -> String {
    let bits = u128::from(match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    });
    format!("{bits:032x}")
}

/// The address as a number, within its own family.
pub fn to_number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// The address of that number in the family of `like`. Numbers beyond IPv4 saturate.
pub fn from_number(number: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX))),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

/// The first usable address of a network: the default gateway, as Neutron chooses it.
pub fn first_usable(net: IpNet) -> Option<IpAddr> {
    let first = to_number(net.network()).checked_add(1)?;
    (first <= to_number(net.broadcast())).then(|| from_number(first, net.network()))
}

/// The addresses that may be handed out when a subnet names no pools: all usable ones but the gateway, as one or two
/// ranges (first, last), both ends included.
pub fn default_pools(net: IpNet, gateway: Option<IpAddr>) -> Vec<(IpAddr, IpAddr)> {
    let like = net.network();
    let (mut low, mut high) = (to_number(net.network()), to_number(net.broadcast()));
    if net.max_prefix_len() - net.prefix_len() >= 2 {
        low += 1;
        if like.is_ipv4() {
            high -= 1;
        }
    }
    let range = |from: u128, to: u128| (from <= to).then(|| (from_number(from, like), from_number(to, like)));
    match gateway.map(to_number).filter(|g| (low..=high).contains(g)) {
        Some(g) => {
            let before = g.checked_sub(1).and_then(|end| range(low, end));
            let after = g.checked_add(1).and_then(|start| range(start, high));
            before.into_iter().chain(after).collect()
        }
        None => range(low, high).into_iter().collect(),
    }
}

/// The first range of that prefix length in any of the ranges that touches none of those taken.
pub fn first_free_block(ranges: &[IpNet], taken: &[IpNet], prefix_len: u8) -> Option<IpNet> {
    let ends = |net: &IpNet| (to_number(net.network()), to_number(net.broadcast()));
    let mut taken: Vec<(u128, u128)> = taken.iter().map(ends).collect();
    taken.sort_unstable();
    ranges.iter().filter(|range| range.prefix_len() <= prefix_len).find_map(|range| {
        let (first, last) = ends(range);
        let size = 1_u128.checked_shl(u32::from(range.max_prefix_len() - prefix_len))?;
        let mut at = first;
        for (from, to) in taken.iter().filter(|(from, to)| *to >= first && *from <= last) {
            if *from > at && *from - at >= size {
                break;
            }
            // The next multiple of the size after what is in the way.
            at = at.max((to / size).checked_add(1)?.checked_mul(size)?);
        }
        let end = at.checked_add(size - 1)?;
        (end <= last).then(|| IpNet::new(from_number(at, range.network()), prefix_len).ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs() {
        assert_eq!("FA:16:3e:00:00:01".parse::<Mac>().map(|m| m.to_string()), Ok("fa:16:3e:00:00:01".into()));
        assert!("01:00:5e:00:00:01".parse::<Mac>().is_err(), "multicast is nobody's address");
        assert!("fa:16:3e:00:00".parse::<Mac>().is_err());
        assert_eq!(Mac::random().0[..3], Mac::PREFIX);
    }

    #[test]
    fn pools_leave_out_network_broadcast_and_gateway() {
        let ip = |s: &str| s.parse::<IpAddr>().ok();
        let pools = |net: &str, gw: Option<&str>| -> Vec<String> {
            let net: IpNet = net.parse().unwrap_or_default();
            default_pools(net, gw.and_then(ip)).iter().map(|(a, b)| format!("{a}-{b}")).collect()
        };
        assert_eq!(pools("10.0.0.0/24", Some("10.0.0.1")), ["10.0.0.2-10.0.0.254"]);
        assert_eq!(pools("10.0.0.0/24", Some("10.0.0.9")), ["10.0.0.1-10.0.0.8", "10.0.0.10-10.0.0.254"]);
        assert_eq!(pools("10.0.0.0/24", None), ["10.0.0.1-10.0.0.254"]);
        assert_eq!(pools("10.0.0.0/31", None), ["10.0.0.0-10.0.0.1"]);
        assert_eq!(pools("2001:db8::/64", Some("2001:db8::1")), ["2001:db8::2-2001:db8::ffff:ffff:ffff:ffff"]);
    }

    #[test]
    fn blocks_are_cut_where_nothing_is() {
        let net = |text: &str| text.parse::<IpNet>().unwrap_or_default();
        let cut = |ranges: &[&str], taken: &[&str], length| {
            let nets = |texts: &[&str]| texts.iter().map(|t| net(t)).collect::<Vec<_>>();
            first_free_block(&nets(ranges), &nets(taken), length).map(|n| n.to_string())
        };
        let ten = ["10.0.0.0/16"];
        assert_eq!(cut(&ten, &[], 24).as_deref(), Some("10.0.0.0/24"));
        assert_eq!(cut(&ten, &["10.0.0.0/24", "10.0.2.0/24"], 24).as_deref(), Some("10.0.1.0/24"));
        assert_eq!(cut(&ten, &["10.0.0.0/24", "10.0.2.0/24"], 23).as_deref(), Some("10.0.4.0/23"));
        assert_eq!(cut(&ten, &["10.0.0.128/25"], 24).as_deref(), Some("10.0.1.0/24"));
        assert_eq!(cut(&ten, &["10.0.0.0/16"], 24), None);
        assert_eq!(cut(&["10.0.0.0/24", "10.9.0.0/16"], &["10.0.0.0/25"], 24).as_deref(), Some("10.9.0.0/24"));
        assert_eq!(cut(&["2001:db8::/48"], &["2001:db8::/64"], 64).as_deref(), Some("2001:db8:0:1::/64"));
        assert_eq!(cut(&["10.0.0.0/24"], &[], 16), None);
    }

    #[test]
    fn guests_name_themselves_by_their_mac() {
        let mac = Mac([0xfa, 0x16, 0x3e, 0x01, 0x02, 0x03]);
        assert_eq!(mac.link_local().to_string(), "fe80::f816:3eff:fe01:203");
        let network = "2001:db8:0:7::".parse().map(|network| mac.eui64(network).to_string());
        assert_eq!(network.as_deref(), Ok("2001:db8:0:7:f816:3eff:fe01:203"));
    }

    #[test]
    fn sortable_form_sorts() {
        let s = |t: &str| t.parse().map(sortable).unwrap_or_default();
        assert!(s("10.0.0.9") < s("10.0.0.10"));
    }
}
