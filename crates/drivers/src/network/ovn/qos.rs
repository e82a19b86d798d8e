//! How much of the network ports have: rules on their switch that limit and mark.

use uuid::Uuid;

use super::{
    plan::{Parent, Plan, Wanted},
    rows::{self, QOS, SWITCH},
};
use crate::network::{Direction, PortSpec, QosRule, ovsdb::Datum};

const PRIORITY: i64 = 2002;
const WAYS: [Direction; 2] = [Direction::Egress, Direction::Ingress];

/// Makes the port's rules be there, and no others of it.
pub(super) fn ensure(plan: &mut Plan<'_>, spec: &PortSpec, switch: Uuid) {
    for way in WAYS {
        let uuid = row(spec.id.as_str(), way);
        let limit = spec.qos.iter().find_map(|rule| match rule {
            QosRule::Limit { direction, kbps, burst_kb } if *direction == way => Some((*kbps, *burst_kb)),
            _ => None,
        });
        let mark = spec.qos.iter().find_map(|rule| match rule {
            QosRule::Mark(mark) if way == Direction::Egress => Some(*mark),
            _ => None,
        });
        if limit.is_none() && mark.is_none() {
            plan.remove_child(SWITCH, "qos_rules", uuid);
            continue;
        }
        let bandwidth = limit.into_iter().flat_map(|(kbps, burst)| {
            [("rate", i64::from(kbps))].into_iter().chain(burst.map(|kb| ("burst", i64::from(kb))))
        });
        let (direction, port) = match way {
            Direction::Egress => ("from-lport", "inport"),
            Direction::Ingress => ("to-lport", "outport"),
        };
        let columns = vec![
            ("direction", Datum::one(direction)),
            ("priority", Datum::one(PRIORITY)),
            ("match", Datum::one(format!("{port} == \"{}\"", spec.id))),
            ("action", Datum::map(mark.map(|mark| ("dscp", i64::from(mark))))),
            ("bandwidth", Datum::map(bandwidth)),
            ("external_ids", Datum::map([(rows::KIND_KEY, "port-qos"), ("nacre-port", spec.id.as_str())])),
        ];
        let parent = Some(Parent { table: SWITCH, column: "qos_rules", uuid: switch });
        plan.ensure(Wanted { table: QOS, uuid, columns, parent });
    }
}

/// Removes the port's rules.
pub(super) fn remove(plan: &mut Plan<'_>, port: &str) {
    for way in WAYS {
        plan.remove_child(SWITCH, "qos_rules", row(port, way));
    }
}

/// What the port is to have at least of its host's link, in bits a second.
pub(super) fn minimum(spec: &PortSpec) -> Option<u64> {
    spec.qos.iter().find_map(|rule| match rule {
        QosRule::Minimum { kbps } => Some(u64::from(*kbps) * 1000),
        _ => None,
    })
}

fn row(port: &str, way: Direction) -> Uuid {
    rows::derived(&["port-qos", port, if way == Direction::Egress { "out" } else { "in" }])
}
