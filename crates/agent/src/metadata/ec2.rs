//! The documents that EC2's clients ask for: a tree of short texts, each folder listing its children.

use hostlink::{Ec2Metadata, Metadata};
use serde_json::{Map, Value};

use super::{Document, user_data};

/// Versions that Nova serves; all answer alike.
pub(super) const VERSIONS: [&str; 10] = [
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "latest",
];

enum Node {
    Leaf(String),
    /// Name, how the listing shows it, content.
    Folder(Vec<(String, String, Node)>),
}

/// What stands at this path below a version.
pub(super) fn find(metadata: &Metadata, path: &[&str]) -> Option<Document> {
    match path {
        [] => {
            let has_user_data = !metadata.user_data_base64.is_empty();
            Some(Document::text(if has_user_data { "meta-data/\nuser-data" } else { "meta-data/" }))
        }
        ["user-data"] => user_data(metadata).map(Document::bytes),
        ["meta-data", rest @ ..] => {
            let mut node = tree(metadata.ec2.as_ref()?);
            for segment in rest {
                let Node::Folder(children) = node else { return None };
                node = children.into_iter().find(|(name, ..)| name == segment)?.2;
            }
            Some(Document::text(match node {
                Node::Leaf(text) => text,
                Node::Folder(children) => {
                    children.into_iter().map(|(_, shown, _)| shown).collect::<Vec<_>>().join("\n")
                }
            }))
        }
        _ => None,
    }
}

/// The whole tree, as config drives have it.
pub(super) fn as_json(ec2: &Ec2Metadata) -> Vec<u8> {
    fn value(node: Node) -> Value {
        match node {
            Node::Leaf(text) => Value::String(text),
            Node::Folder(children) => {
                Value::Object(children.into_iter().map(|(name, _, node)| (name, value(node))).collect::<Map<_, _>>())
            }
        }
    }
    value(tree(ec2)).to_string().into_bytes()
}

fn tree(ec2: &Ec2Metadata) -> Node {
    let keys = ec2.public_keys.iter().enumerate().map(|(number, key)| {
        let content = folder([("openssh-key", leaf(&key.openssh))]);
        (number.to_string(), format!("{number}={}", key.name), content)
    });
    folder([
        ("ami-id", leaf(&ec2.ami_id)),
        ("ami-launch-index", Node::Leaf(ec2.ami_launch_index.to_string())),
        ("ami-manifest-path", leaf("FIXME")), // This very word is what Nova answers and what clients know to ignore.
        ("block-device-mapping", folder([("ami", leaf("vda")), ("root", leaf("/dev/vda"))])),
        ("hostname", leaf(&ec2.hostname)),
        ("instance-action", leaf("none")),
        ("instance-id", leaf(&ec2.instance_id)),
        ("instance-type", leaf(&ec2.instance_type)),
        ("local-hostname", leaf(&ec2.hostname)),
        ("local-ipv4", leaf(&ec2.local_ipv4)),
        ("placement", folder([("availability-zone", leaf(&ec2.availability_zone))])),
        ("public-hostname", leaf(&ec2.hostname)),
        ("public-ipv4", leaf(&ec2.public_ipv4)),
        ("public-keys", Node::Folder(keys.collect())),
        ("reservation-id", leaf(&ec2.reservation_id)),
        ("security-groups", Node::Leaf(ec2.security_groups.join("\n"))),
    ])
}

fn leaf(text: &str) -> Node {
    Node::Leaf(text.to_owned())
}

fn folder<const N: usize>(children: [(&str, Node); N]) -> Node {
    let shown = |name: &str, node: &Node| match node {
        Node::Leaf(_) => name.to_owned(),
        Node::Folder(_) => format!("{name}/"),
    };
    Node::Folder(children.into_iter().map(|(name, node)| (name.to_owned(), shown(name, &node), node)).collect())
}
