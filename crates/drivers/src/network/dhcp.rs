//! What single guests are told by DHCP besides what their subnet says: which options there are, and how values look.
//!
//! Clients name options as dnsmasq does, or by their number. What comes out is written into OVN's expression language,
//! so that only values of known forms pass.

use std::net::IpAddr;

use super::Family;

/// An option in the engine's terms.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DhcpOption {
    /// Whose answers it is in.
    pub family: Family,
    /// The engine's name of it.
    pub name: &'static str,
    /// The value as the engine reads it.
    pub value: String,
}

#[derive(Clone, Copy)]
enum Form {
    /// One address.
    Address,
    /// One address or several, separated by commas.
    Addresses,
    /// 0 or 1.
    Flag,
    /// A number up to this one.
    Number(u32),
    /// Text of the characters that host and file names are made of.
    Text,
}

use Form::{Address, Addresses, Flag, Number, Text};

/// Name, number, the engine's name, form.
const V4: &[(&str, u8, &str, Form)] = &[
    ("netmask", 1, "netmask", Address),
    ("router", 3, "router", Address),
    ("dns-server", 6, "dns_server", Addresses),
    ("log-server", 7, "log_server", Addresses),
    ("lpr-server", 9, "lpr_server", Addresses),
    ("hostname", 12, "hostname", Text),
    ("domain-name", 15, "domain_name", Text),
    ("swap-server", 16, "swap_server", Address),
    ("ip-forward-enable", 19, "ip_forward_enable", Flag),
    ("policy-filter", 21, "policy_filter", Addresses),
    ("default-ttl", 23, "default_ttl", Number(255)),
    ("mtu", 26, "mtu", Number(65_535)),
    ("router-discovery", 31, "router_discovery", Flag),
    ("router-solicitation", 32, "router_solicitation", Address),
    ("arp-timeout", 35, "arp_cache_timeout", Number(u32::MAX)),
    ("ethernet-encap", 36, "ethernet_encap", Flag),
    ("tcp-ttl", 37, "tcp_ttl", Number(255)),
    ("tcp-keepalive", 38, "tcp_keepalive_interval", Number(u32::MAX)),
    ("nis-server", 41, "nis_server", Addresses),
    ("ntp-server", 42, "ntp_server", Addresses),
    ("server-id", 54, "server_id", Address),
    ("tftp-server", 66, "tftp_server", Text),
    ("bootfile-name", 67, "bootfile_name", Text),
    ("domain-search", 119, "domain_search_list", Text),
    ("server-ip-address", 150, "tftp_server_address", Addresses),
    ("path-prefix", 210, "path_prefix", Text),
    ("wpad", 252, "wpad", Text),
];
const V6: &[(&str, u8, &str, Form)] = &[
    ("server-id", 2, "server_id", Text),
    ("dns-server", 23, "dns_server", Addresses),
    ("domain-search", 24, "domain_search", Text),
    ("bootfile-name", 59, "bootfile_name", Text),
];

impl DhcpOption {
    /// Whether there is an option of that name or number.
    pub fn is_known(family: Family, name: &str) -> bool {
        find(family, name).is_some()
    }

    /// The option of that name or number; none where the engine has none such, or the value is not of its form.
    pub fn parse(family: Family, name: &str, value: &str) -> Option<Self> {
        let (_, _, name, form) = find(family, name)?;
        Some(Self { family, name, value: written(*form, family, value)? })
    }
}

fn find(family: Family, name: &str) -> Option<&'static (&'static str, u8, &'static str, Form)> {
    let known = if family == Family::V4 { V4 } else { V6 };
    let plain = name.strip_prefix("option:").unwrap_or(name).replace('_', "-");
    let number = plain.parse::<u8>().ok();
    known.iter().find(|(known, n, ..)| *known == plain || Some(*n) == number)
}

fn written(form: Form, family: Family, value: &str) -> Option<String> {
    let address = |text: &str| {
        let ip: IpAddr = text.trim().parse().ok()?;
        (ip.is_ipv4() == (family == Family::V4)).then(|| ip.to_string())
    };
    match form {
        Address => address(value),
        Addresses => {
            let all: Vec<String> = value.split(',').map(address).collect::<Option<_>>()?;
            Some(if all.len() == 1 { all.concat() } else { format!("{{{}}}", all.join(", ")) })
        }
        Flag => matches!(value, "0" | "1").then(|| value.to_owned()),
        Number(max) => value.parse::<u32>().ok().filter(|number| *number <= max).map(|number| number.to_string()),
        Text => {
            let plain =
                |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | ':' | ',' | '?' | '=');
            (!value.is_empty() && value.len() <= 255 && value.chars().all(plain)).then(|| format!("\"{value}\""))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_by_name_and_number() {
        let table = [
            (Family::V4, "bootfile-name", "pxelinux.0", Some(("bootfile_name", "\"pxelinux.0\""))),
            (Family::V4, "67", "a/b.ipxe", Some(("bootfile_name", "\"a/b.ipxe\""))),
            (Family::V4, "server-ip-address", "10.0.0.5", Some(("tftp_server_address", "10.0.0.5"))),
            (Family::V4, "option:ntp_server", "10.0.0.5,10.0.0.6", Some(("ntp_server", "{10.0.0.5, 10.0.0.6}"))),
            (Family::V4, "mtu", "1400", Some(("mtu", "1400"))),
            (Family::V4, "mtu", "65536", None),
            (Family::V4, "bootfile-name", "\"); drop; (\"", None),
            (Family::V4, "ntp-server", "2001:db8::1", None),
            (Family::V6, "dns-server", "2001:db8::1", Some(("dns_server", "2001:db8::1"))),
            (Family::V6, "mtu", "1400", None),
            (Family::V4, "magic", "1", None),
        ];
        for (family, name, value, expected) in table {
            let made = DhcpOption::parse(family, name, value);
            assert_eq!(made.as_ref().map(|o| (o.name, o.value.as_str())), expected, "{name}={value}");
        }
    }
}
