//! Which host takes a server.
//!
//! A pure function over a snapshot: `store` reads the hosts and claims the choice in the same transaction, so that
//! what is chosen here is what is claimed. A refusal says which constraint excluded how many hosts and what would fit.

use std::collections::BTreeMap;

use crate::{Error, Result, id::HostId};

/// What a server asks of a host.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Virtual CPUs.
    pub vcpus: i64,
    /// Memory in MiB.
    pub memory_mib: i64,
    /// Root disk in GiB.
    pub disk_gib: i64,
    /// Only hosts of this availability zone.
    pub zone: Option<String>,
    /// Only this host (administrators may ask for one).
    pub host: Option<String>,
    /// Where the servers of its group are.
    pub company: Company,
}

/// Where a server of a group may go, as the others of the group and its policy have it.
#[derive(Clone, Debug, Default)]
pub struct Company {
    /// Only these hosts (affinity); none: any.
    pub only: Vec<HostId>,
    /// Not these (anti-affinity).
    pub never: Vec<HostId>,
    /// How much each host is preferred over one that is not named (the soft policies): negative to be shunned.
    pub preference: BTreeMap<HostId, i64>,
}

/// What a host has, and what is claimed of it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The host's id.
    pub id: HostId,
    /// The host's name, as `OS-EXT-SRV-ATTR:host` shows it.
    pub name: String,
    /// Its availability zone.
    pub zone: String,
    /// Whether an administrator lets it take servers.
    pub enabled: bool,
    /// Whether its agent is connected.
    pub up: bool,
    /// Virtual CPUs after over-commit.
    pub vcpus: i64,
    /// Of those, claimed.
    pub vcpus_used: i64,
    /// Memory in MiB after reserve and over-commit.
    pub memory_mib: i64,
    /// Of that, claimed.
    pub memory_mib_used: i64,
    /// Disk in GiB.
    pub disk_gib: i64,
    /// Of that, claimed.
    pub disk_gib_used: i64,
}

/// The host with the most free memory among those that satisfy the request (Nova's default: spread), ties broken by
/// free CPUs, then by name so that the choice is the same each time.
///
/// # Errors
/// `NoValidHost` (conflict) with the count of hosts that each constraint excluded.
pub fn choose<'a>(request: &Request, hosts: &'a [Candidate]) -> Result<&'a Candidate> {
    let mut excluded: BTreeMap<&'static str, usize> = BTreeMap::new();
    let best = hosts
        .iter()
        .filter(|host| match obstacle(request, host) {
            Some(reason) => {
                *excluded.entry(reason).or_default() += 1;
                false
            }
            None => true,
        })
        .max_by_key(|h| {
            let preference = request.company.preference.get(&h.id).copied().unwrap_or(0);
            let name = std::cmp::Reverse(h.name.clone());
            (preference, h.memory_mib - h.memory_mib_used, h.vcpus - h.vcpus_used, name)
        });
    best.ok_or_else(|| refusal(request, hosts, &excluded))
}

/// The first constraint that keeps the server off this host.
fn obstacle(request: &Request, host: &Candidate) -> Option<&'static str> {
    let short = |total: i64, used: i64, wanted: i64| total.saturating_sub(used) < wanted;
    if request.host.as_ref().is_some_and(|wanted| *wanted != host.name) {
        Some("not the requested host")
    } else if request.zone.as_ref().is_some_and(|wanted| *wanted != host.zone) {
        Some("in another availability zone")
    } else if !request.company.only.is_empty() && !request.company.only.contains(&host.id) {
        Some("without the servers of its group")
    } else if request.company.never.contains(&host.id) {
        Some("with servers of its group")
    } else if !host.enabled {
        Some("disabled")
    } else if !host.up {
        Some("down")
    } else if short(host.vcpus, host.vcpus_used, request.vcpus) {
        Some("too few free VCPUs")
    } else if short(host.memory_mib, host.memory_mib_used, request.memory_mib) {
        Some("too little free memory")
    } else if short(host.disk_gib, host.disk_gib_used, request.disk_gib) {
        Some("too little free disk")
    } else {
        None
    }
}

fn refusal(request: &Request, hosts: &[Candidate], excluded: &BTreeMap<&'static str, usize>) -> Error {
    let mut text = String::from("No valid host was found. ");
    if hosts.is_empty() {
        text.push_str("No hypervisor host has joined this cloud yet.");
        return Error::conflict("NoValidHost", text);
    }
    let reasons: Vec<String> = excluded.iter().map(|(why, count)| format!("{count} {why}")).collect();
    text.push_str(&format!("Of {} host(s): {}.", hosts.len(), reasons.join(", ")));
    let usable = hosts.iter().filter(|h| h.up && h.enabled && request.zone.as_ref().is_none_or(|z| *z == h.zone));
    if let Some(roomiest) = usable.max_by_key(|h| h.memory_mib - h.memory_mib_used) {
        text.push_str(&format!(
            " The roomiest would take up to {} VCPUs, {} MiB of memory and {} GiB of disk.",
            roomiest.vcpus - roomiest.vcpus_used,
            roomiest.memory_mib - roomiest.memory_mib_used,
            roomiest.disk_gib - roomiest.disk_gib_used
        ));
    }
    Error::conflict("NoValidHost", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, free_mib: i64) -> Candidate {
        Candidate {
            id: HostId::new(name),
            name: name.into(),
            zone: "nova".into(),
            enabled: true,
            up: true,
            vcpus: 8,
            vcpus_used: 0,
            memory_mib: free_mib,
            memory_mib_used: 0,
            disk_gib: 100,
            disk_gib_used: 0,
        }
    }

    #[test]
    fn spreads_over_the_roomiest() {
        let hosts = [host("a", 1000), host("b", 2000)];
        let request = Request { vcpus: 1, memory_mib: 100, disk_gib: 1, ..Request::default() };
        assert_eq!(choose(&request, &hosts).map(|h| h.name.clone()).ok(), Some("b".into()));
    }

    #[test]
    fn company() {
        let hosts = [host("a", 1000), host("b", 2000), host("c", 3000)];
        let id = |name: &str| HostId::new(name);
        let table = [
            (Company { only: vec![id("a")], ..Company::default() }, Some("a")),
            (Company { never: vec![id("c")], ..Company::default() }, Some("b")),
            (Company { never: vec![id("a"), id("b"), id("c")], ..Company::default() }, None),
            (Company { preference: BTreeMap::from([(id("a"), 1)]), ..Company::default() }, Some("a")),
            (Company { preference: BTreeMap::from([(id("c"), -1)]), ..Company::default() }, Some("b")),
        ];
        for (company, expected) in table {
            let request = Request { company, ..Request::default() };
            assert_eq!(choose(&request, &hosts).ok().map(|h| h.name.as_str()), expected, "{:?}", request.company);
        }
    }

    #[test]
    fn a_refusal_counts_and_says_what_fits() {
        let mut down = host("c", 9000);
        down.up = false;
        let hosts = [host("a", 1000), host("b", 2000), down];
        let request = Request { vcpus: 1, memory_mib: 4000, disk_gib: 1, ..Request::default() };
        let message = choose(&request, &hosts).map(|_| String::new()).unwrap_or_else(|e| e.message);
        assert!(message.contains("Of 3 host(s): 1 down, 2 too little free memory."), "{message}");
        assert!(message.contains("up to 8 VCPUs, 2000 MiB"), "{message}");
    }
}
