//! What an import asks for.

use model::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::fetch;

/// The store that there is.
pub(crate) const STORE: &str = "file";
/// Ways to import.
pub(crate) const METHODS: &[&str] = &["glance-direct", "web-download"];

/// The body of an import.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Import {
    method: Method,
    #[serde(default)]
    stores: Option<Vec<String>>,
    #[serde(default)]
    all_stores: Option<bool>,
    #[serde(default)]
    all_stores_must_succeed: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
struct Method {
    name: String,
    #[serde(default)]
    uri: Option<String>,
}

impl Import {
    /// The address to fetch from; none for what was staged.
    pub(super) fn check(&self) -> Result<Option<String>> {
        let bad = |text: String| Err(Error::bad_request("BadRequest", text));
        if let Some(unknown) = self.stores.iter().flatten().find(|store| *store != STORE) {
            return Err(Error::conflict("UnknownStore", format!("There is no store {unknown}.")));
        }
        if self.stores.is_some() && self.all_stores == Some(true) {
            return bad("'stores' and 'all_stores' can't both be given.".to_owned());
        }
        match (self.method.name.as_str(), &self.method.uri) {
            ("glance-direct", _) => Ok(None),
            ("web-download", Some(uri)) => {
                fetch::parse(uri)?;
                Ok(Some(uri.clone()))
            }
            ("web-download", None) => bad("'uri' is required for the import method web-download.".to_owned()),
            (other, _) => bad(format!(
                "The import method {other} is not one of this cloud's: {}. There is one store, and one region.",
                METHODS.join(", ")
            )),
        }
    }

    /// As tasks show it.
    pub(super) fn input(&self, image: &str, generation: i64) -> Value {
        let mut method = json!({"name": self.method.name});
        if let Some(uri) = &self.method.uri {
            method["uri"] = json!(uri);
        }
        json!({
            "image_id": image,
            "generation": generation,
            "backend": [STORE],
            "import_req": {
                "method": method,
                "stores": self.stores,
                "all_stores": self.all_stores.unwrap_or_default(),
                "all_stores_must_succeed": self.all_stores_must_succeed.unwrap_or(true),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports() {
        let table = [
            (json!({"method": {"name": "glance-direct"}}), Ok(None)),
            (json!({"method": {"name": "glance-direct"}, "stores": ["file"]}), Ok(None)),
            (json!({"method": {"name": "glance-direct"}, "stores": ["other"]}), Err(())),
            (json!({"method": {"name": "glance-direct"}, "stores": ["file"], "all_stores": true}), Err(())),
            (
                json!({"method": {"name": "web-download", "uri": "http://x.test/i"}}),
                Ok(Some("http://x.test/i".to_owned())),
            ),
            (json!({"method": {"name": "web-download", "uri": "file:///etc/passwd"}}), Err(())),
            (json!({"method": {"name": "web-download"}}), Err(())),
            (json!({"method": {"name": "copy-image"}}), Err(())),
            (json!({"method": {"name": "glance-download"}}), Err(())),
        ];
        for (body, expected) in table {
            let import: Import = serde_json::from_value(body.clone()).unwrap();
            assert_eq!(import.check().map_err(|_| ()), expected, "{body}");
        }
    }
}
