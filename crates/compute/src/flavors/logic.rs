//! What a flavor may be.

use std::collections::BTreeMap;

use model::{Result, Timestamp, id::FlavorId};
use serde::Deserialize;
use serde_json::Value;
use store::compute::flavors::Flavor;
use web::{Version, paging::parse_flag};

use crate::input::{Flag, Whole, check_name, invalid};

/// Largest number in a flavor (Nova's columns have 32 bits).
const NUMBER_MAX: i64 = i32::MAX as i64;
const DESCRIPTION_CHARS_MAX: usize = 65_535;
const SPEC_CHARS_MAX: usize = 255;

/// The body of a request for a new one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewFlavor {
    name: String,
    #[serde(default)]
    id: Value,
    ram: Whole,
    vcpus: Whole,
    disk: Whole,
    #[serde(rename = "OS-FLV-EXT-DATA:ephemeral")]
    ephemeral: Option<Whole>,
    swap: Option<Whole>,
    rxtx_factor: Option<Value>,
    #[serde(rename = "os-flavor-access:is_public")]
    is_public: Option<Flag>,
    description: Option<String>,
}

/// The flavor that was asked for.
pub fn plan(new: NewFlavor, version: Version, now: Timestamp) -> Result<Flavor> {
    check_name("name", &new.name)?;
    if new.description.is_some() && version < Version(2, 55) {
        return Err(invalid("Additional properties are not allowed ('description' was unexpected)"));
    }
    check_description(new.description.as_deref())?;
    let vcpus = number("vcpus", new.vcpus, 1)?;
    let memory_mib = number("ram", new.ram, 1)?;
    let disk_gib = number("disk", new.disk, 0)?;
    let base = Flavor::new(flavor_id(&new.id)?.as_str(), &new.name, vcpus, memory_mib, disk_gib, now);
    Ok(Flavor {
        description: new.description,
        ephemeral_gib: number("OS-FLV-EXT-DATA:ephemeral", new.ephemeral.unwrap_or(Whole(0)), 0)?,
        swap_mib: number("swap", new.swap.unwrap_or(Whole(0)), 0)?,
        rxtx_factor: rxtx_factor(new.rxtx_factor.as_ref())?,
        is_public: new.is_public.is_none_or(|flag| flag.0),
        ..base
    })
}

/// A description, or none.
pub fn check_description(description: Option<&str>) -> Result<()> {
    let bad = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    match description {
        Some(text) if text.chars().count() > DESCRIPTION_CHARS_MAX || text.chars().any(bad) => Err(invalid(format!(
            "Invalid input for description: at most {DESCRIPTION_CHARS_MAX} printable characters are possible."
        ))),
        _ => Ok(()),
    }
}

/// Which flavors a list shows: public ones unless the query says otherwise, `none` for all.
pub fn is_public(text: Option<&str>) -> Result<Option<bool>> {
    match text {
        None => Ok(Some(true)),
        Some(text) if text.eq_ignore_ascii_case("none") => Ok(None),
        Some(text) => parse_flag(text).map(Some).ok_or_else(|| invalid(format!("Invalid is_public filter [{text}]"))),
    }
}

/// A lower bound of a list.
pub fn minimum(name: &str, text: Option<&str>) -> Result<Option<i64>> {
    text.map(|text| text.trim().parse().map_err(|_| invalid(format!("Invalid {name} filter [{text}]")))).transpose()
}

/// Extra specs as a request gives them; numbers become text.
pub fn specs(given: BTreeMap<String, Value>) -> Result<BTreeMap<String, String>> {
    given
        .into_iter()
        .map(|(key, value)| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_:. ".contains(c);
            if key.is_empty() || key.chars().count() > SPEC_CHARS_MAX || !key.chars().all(allowed) {
                return Err(invalid(format!("Invalid input for extra_specs: the key {key:?} is not allowed.")));
            }
            let value = match value {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                other => return Err(invalid(format!("Invalid input for extra_specs: {key} can't be {other}."))),
            };
            if value.chars().count() > SPEC_CHARS_MAX {
                return Err(invalid(format!("extra_specs value has more than {SPEC_CHARS_MAX} characters.")));
            }
            Ok((key, value))
        })
        .collect()
}

/// A number or text without odd characters; none: a random one.
fn flavor_id(given: &Value) -> Result<FlavorId> {
    let id = match given {
        Value::Null => return Ok(FlavorId::random()),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        other => return Err(invalid(format!("Invalid input for id: {other}."))),
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || ". _-".contains(c);
    if id.is_empty() || id.len() > SPEC_CHARS_MAX || id.trim() != id || !id.chars().all(allowed) {
        return Err(invalid(format!(
            "Invalid input for id: {id:?}; letters, digits, points, dashes, underscores and inner spaces are possible."
        )));
    }
    Ok(FlavorId::new(id))
}

fn number(name: &str, given: Whole, min: i64) -> Result<i64> {
    if (min..=NUMBER_MAX).contains(&given.0) {
        return Ok(given.0);
    }
    Err(invalid(format!("Invalid input for {name}: {} is not between {min} and {NUMBER_MAX}.", given.0)))
}

fn rxtx_factor(given: Option<&Value>) -> Result<String> {
    let factor = match given {
        None => Some(1.0),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.parse().ok(),
        Some(_) => None,
    };
    match factor {
        Some(factor) if factor > 0.0 && factor <= f64::from(f32::MAX) => Ok(format!("{factor:?}")),
        _ => Err(invalid("Invalid input for rxtx_factor: it is a number above 0.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn planned(changes: Value) -> Result<Flavor> {
        let mut body = json!({"name": "m", "ram": 64, "vcpus": 1, "disk": 0});
        for (key, value) in changes.as_object().unwrap() {
            body[key] = value.clone();
        }
        let new = serde_json::from_value(body).map_err(|e| invalid(e.to_string()))?;
        plan(new, Version(2, 100), Timestamp(1))
    }

    #[test]
    fn what_a_flavor_may_be() {
        let good = [
            json!({}),
            json!({"id": 7, "ram": "512", "swap": 0}),
            json!({"id": "a b.c-d_e", "rxtx_factor": "2.5", "os-flavor-access:is_public": "False"}),
            json!({"description": "two\nlines"}),
            json!({"id": null, "OS-FLV-EXT-DATA:ephemeral": "3"}),
        ];
        for changes in good {
            assert!(planned(changes.clone()).is_ok(), "{changes}");
        }
        let bad = [
            json!({"name": ""}),
            json!({"name": " m"}),
            json!({"name": "m".repeat(256)}),
            json!({"id": ""}),
            json!({"id": " 1"}),
            json!({"id": "a/b"}),
            json!({"id": true}),
            json!({"ram": 0}),
            json!({"ram": "many"}),
            json!({"vcpus": -1}),
            json!({"disk": 4_294_967_296_i64}),
            json!({"swap": -1}),
            json!({"rxtx_factor": 0}),
            json!({"rxtx_factor": "inf"}),
            json!({"os-flavor-access:is_public": "maybe"}),
            json!({"description": "\u{0}"}),
            json!({"unknown": 1}),
        ];
        for changes in bad {
            assert!(planned(changes.clone()).is_err(), "{changes}");
        }
        assert_eq!(planned(json!({"id": 7})).unwrap().id.as_str(), "7");
        assert_eq!(planned(json!({"rxtx_factor": 2})).unwrap().rxtx_factor, "2.0");
    }

    #[test]
    fn what_lists_take() {
        assert_eq!(is_public(None).unwrap(), Some(true));
        assert_eq!(is_public(Some("None")).unwrap(), None);
        assert_eq!(is_public(Some("no")).unwrap(), Some(false));
        assert!(is_public(Some("x")).is_err());
        assert_eq!(minimum("minRam", Some("5")).unwrap(), Some(5));
        assert!(minimum("minRam", Some("five")).is_err());
    }

    #[test]
    fn what_extra_specs_may_be() {
        let spec = |key: &str, value: Value| specs(BTreeMap::from([(key.to_owned(), value)]));
        assert_eq!(spec("hw:cpu_policy", json!("x")).unwrap()["hw:cpu_policy"], "x");
        assert_eq!(spec("n", json!(1.5)).unwrap()["n"], "1.5");
        for (key, value) in [("", json!("x")), ("a/b", json!("x")), ("a", json!(true)), ("a", json!("x".repeat(256)))] {
            assert!(spec(key, value).is_err(), "{key}");
        }
    }
}
