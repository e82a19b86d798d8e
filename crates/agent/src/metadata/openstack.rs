//! The documents under `/openstack`, as the control plane wrote them.

use hostlink::Metadata;

use super::{Document, user_data};

/// Versions that Nova serves, oldest first.
const VERSIONS: [&str; 10] = [
    "2012-08-10",
    "2013-04-04",
    "2013-10-17",
    "2015-10-15",
    "2016-06-30",
    "2016-10-06",
    "2017-02-22",
    "2018-08-27",
    "2020-10-14",
    "latest",
];
/// TABLE: a document's name, and the first version that has it.
const NAMES: [(&str, &str); 6] = [
    ("meta_data.json", "2012-08-10"),
    ("user_data", "2012-08-10"),
    ("password", "2013-04-04"),
    ("vendor_data.json", "2013-10-17"),
    ("network_data.json", "2015-10-15"),
    ("vendor_data2.json", "2016-10-06"),
];

/// What stands at this path below `/openstack`. The password is not here: it changes.
pub(super) fn find(metadata: &Metadata, path: &[&str]) -> Option<Document> {
    match path {
        [] => Some(Document::text(VERSIONS.join("\n"))),
        [version] if VERSIONS.contains(version) => {
            let has = |name: &str| name == "password" || document(metadata, name).is_some();
            let names = NAMES.iter().filter(|(name, since)| since <= version && has(name));
            Some(Document::text(names.map(|(name, _)| *name).collect::<Vec<_>>().join("\n")))
        }
        [version, name] if VERSIONS.contains(version) => {
            NAMES.iter().find(|(known, since)| known == name && since <= version)?;
            document(metadata, name)
        }
        _ => None,
    }
}

/// Whether the path is that of the guest's password.
pub(super) fn is_password(path: &str) -> bool {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    matches!(segments.as_slice(), ["openstack", version, "password"]
        if VERSIONS.contains(version) && *version >= "2013-04-04")
}

/// Every document there is, by name, in the order of the listing.
pub(super) fn documents(metadata: &Metadata) -> Vec<(&'static str, Document)> {
    NAMES.iter().filter_map(|(name, _)| Some((*name, document(metadata, name)?))).collect()
}

fn document(metadata: &Metadata, name: &str) -> Option<Document> {
    let json = |text: &String| (!text.is_empty()).then(|| Document::json(text));
    match name {
        "meta_data.json" => json(&metadata.meta_data_json),
        "network_data.json" => json(&metadata.network_data_json),
        "vendor_data.json" => json(&metadata.vendor_data_json),
        "vendor_data2.json" => json(&metadata.vendor_data2_json),
        "user_data" => user_data(metadata).map(Document::bytes),
        _ => None,
    }
}
