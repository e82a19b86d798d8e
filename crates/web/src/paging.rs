//! `limit`, `marker`, sorting, filters and links, from the query string to [`store::list`] and back.

use model::{Error, Result, limits::PAGE_SIZE_MAX};
use store::list::{Direction, Page, Resemblance, Select, SortKey, Value};

use crate::Cx;

/// A query string: pairs in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Query(pub Vec<(String, String)>);

impl Query {
    /// Reads `a=1&b=2`.
    pub fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The last value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// All values of a parameter, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Whether the parameter is there at all.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A flag, in any of the spellings that OpenStack takes.
    ///
    /// # Errors
    /// Bad request for anything else.
    pub fn flag(&self, name: &'static str) -> Result<Option<bool>> {
        self.get(name).map(|text| parse_flag(text).ok_or_else(|| invalid(name, text))).transpose()
    }

    /// A whole number that is not negative.
    ///
    /// # Errors
    /// Bad request for anything else.
    pub fn number(&self, name: &'static str) -> Result<Option<u32>> {
        self.get(name).map(|text| text.parse().map_err(|_| invalid(name, text))).transpose()
    }

    /// The query string again, with some parameters replaced.
    fn with(&self, replaced: &[(&str, &str)]) -> String {
        let kept =
            self.0.iter().filter(|(n, _)| replaced.iter().all(|(r, _)| r != n)).map(|(n, v)| (n.as_str(), v.as_str()));
        form_urlencoded::Serializer::new(String::new()).extend_pairs(kept.chain(replaced.iter().copied())).finish()
    }
}

/// `true`, `1`, `yes`, `on`, `t`, `y` and their opposites, whatever the case (oslo's `strutils.bool_from_string`).
pub fn parse_flag(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "on" | "y" | "yes" => Some(true),
        "0" | "f" | "false" | "off" | "n" | "no" => Some(false),
        _ => None,
    }
}

fn invalid(name: &str, text: &str) -> Error {
    Error::bad_request("InvalidInput", format!("Invalid input for query parameter {name}. Value: {text}."))
}

/// What a list lets its clients sort and filter by.
#[derive(Clone, Copy, Debug)]
pub struct ListSpec {
    /// Keys that may be sorted by; the first is the default.
    pub sorts: &'static [SortKey],
    /// The default direction.
    pub direction: Direction,
    /// Parameters that filter.
    pub filters: &'static [Filter],
}

/// What Keystone's filters may end with: how they compare, and whether whatever the case.
const RESEMBLANCES: [(&str, Resemblance, bool); 6] = [
    ("contains", Resemblance::Contains, false),
    ("icontains", Resemblance::Contains, true),
    ("startswith", Resemblance::StartsWith, false),
    ("istartswith", Resemblance::StartsWith, true),
    ("endswith", Resemblance::EndsWith, false),
    ("iendswith", Resemblance::EndsWith, true),
];

/// A parameter that filters a list.
#[derive(Clone, Copy, Debug)]
pub struct Filter {
    /// As clients spell it.
    pub name: &'static str,
    /// The column, as SQL has it.
    pub sql: &'static str,
    /// How it compares.
    pub how: Match,
}

/// How a filter compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// Equal to one of the values given.
    Exact,
    /// Contains the value, whatever the case (Nova's `name`).
    Contains,
    /// A flag.
    Flag,
    /// A whole number, equal to one of those given.
    Number,
}

impl Filter {
    /// Equal to one of the values given.
    pub const fn exact(name: &'static str, sql: &'static str) -> Self {
        Self { name, sql, how: Match::Exact }
    }
    /// Contains the value.
    pub const fn contains(name: &'static str, sql: &'static str) -> Self {
        Self { name, sql, how: Match::Contains }
    }
    /// A flag.
    pub const fn flag(name: &'static str, sql: &'static str) -> Self {
        Self { name, sql, how: Match::Flag }
    }
    /// A whole number.
    pub const fn number(name: &'static str, sql: &'static str) -> Self {
        Self { name, sql, how: Match::Number }
    }
}

impl ListSpec {
    /// Adds the query's filters to a `select`. Parameters that no filter names are left alone.
    ///
    /// # Errors
    /// Bad request for a value that is no flag or number.
    pub fn filter(&self, query: &Query, select: &mut Select) -> Result<()> {
        for filter in self.filters.iter().filter(|f| query.has(f.name)) {
            match filter.how {
                Match::Exact => {
                    select.any_of(filter.sql, query.all(filter.name).map(Value::from));
                }
                Match::Contains => {
                    select.contains(filter.sql, query.get(filter.name).unwrap_or_default());
                }
                Match::Flag => {
                    let flags: Result<Vec<Value>> = query
                        .all(filter.name)
                        .map(|text| parse_flag(text).map(Value::from).ok_or_else(|| invalid(filter.name, text)))
                        .collect();
                    select.any_of(filter.sql, flags?);
                }
                Match::Number => {
                    let numbers: Result<Vec<Value>> = query
                        .all(filter.name)
                        .map(|text| text.parse::<i64>().map(Value::from).map_err(|_| invalid(filter.name, text)))
                        .collect();
                    select.any_of(filter.sql, numbers?);
                }
            }
        }
        Ok(())
    }

    /// Adds Keystone's inexact filters of texts: `name__contains`, `name__istartswith` and the like.
    pub fn filter_inexactly(&self, query: &Query, select: &mut Select) {
        for (parameter, value) in &query.0 {
            let Some((name, ending)) = parameter.split_once("__") else { continue };
            let filter = self.filters.iter().find(|f| f.name == name && f.how == Match::Exact);
            let how = RESEMBLANCES.iter().find(|(text, ..)| *text == ending);
            if let (Some(filter), Some((_, how, ignore_case))) = (filter, how) {
                select.resembles(filter.sql, *how, *ignore_case, value);
            }
        }
    }

    /// The page that the query asks for: `limit`, `marker`, `sort_key` and `sort_dir` (each several times), Glance's
    /// and Cinder's `sort=name:asc,size`, Neutron's `page_reverse`.
    ///
    /// # Errors
    /// Bad request for a limit that is no number, a key that can't be sorted by, a direction that is none.
    pub fn page(&self, query: &Query) -> Result<Page> {
        let limit = query.number("limit")?;
        let mut sorts = Vec::new();
        let directions: Vec<&str> = query.all("sort_dir").collect();
        for (at, name) in query.all("sort_key").enumerate() {
            sorts.push((
                self.sort_key(name)?,
                direction(directions.get(at).or(directions.last()).copied(), self.direction)?,
            ));
        }
        for part in query.get("sort").into_iter().flat_map(|s| s.split(',')) {
            let (name, dir) = part.split_once(':').map_or((part, None), |(name, dir)| (name, Some(dir)));
            sorts.push((self.sort_key(name.trim())?, direction(dir.map(str::trim), self.direction)?));
        }
        if sorts.is_empty()
            && let Some(first) = self.sorts.first()
        {
            sorts.push((*first, direction(directions.first().copied(), self.direction)?));
        }
        Ok(Page {
            limit: limit.unwrap_or(PAGE_SIZE_MAX).min(PAGE_SIZE_MAX),
            marker: query.get("marker").filter(|m| !m.is_empty()).map(str::to_owned),
            sorts,
            reverse: query.flag("page_reverse")?.unwrap_or(false),
        })
    }

    fn sort_key(&self, name: &str) -> Result<SortKey> {
        let names = || self.sorts.iter().map(|s| s.name).collect::<Vec<_>>().join(", ");
        self.sorts.iter().find(|s| s.name == name).copied().ok_or_else(|| {
            Error::bad_request("InvalidSortKey", format!("Sort key {name:?} is not supported; these are: {}.", names()))
        })
    }
}

fn direction(text: Option<&str>, default: Direction) -> Result<Direction> {
    match text.map(str::to_ascii_lowercase).as_deref() {
        None => Ok(default),
        Some("asc") => Ok(Direction::Ascending),
        Some("desc") => Ok(Direction::Descending),
        Some(other) => {
            Err(Error::bad_request("InvalidSortDir", format!("Sort direction {other:?} is neither asc nor desc.")))
        }
    }
}

impl Cx {
    /// The address of the page after the one whose last row has this id.
    pub fn next_url(&self, last_id: &str) -> String {
        format!("{}?{}", self.self_url(), self.query.with(&[("marker", last_id)]))
    }

    /// The same without scheme and authority, as Glance writes it.
    pub fn next_path(&self, last_id: &str) -> String {
        // Glance's links start at its own version: clients put its endpoint before them.
        let path = self.path.strip_prefix(self.service().prefix).unwrap_or(&self.path);
        format!("{path}?{}", self.query.with(&[("marker", last_id)]))
    }

    /// The address of the page before the one whose first row has this id (Neutron).
    pub fn previous_url(&self, first_id: &str) -> String {
        format!("{}?{}", self.self_url(), self.query.with(&[("marker", first_id), ("page_reverse", "True")]))
    }

    /// The query string, whether paged or not, without `marker`.
    pub fn first_path(&self) -> String {
        let path = self.path.strip_prefix(self.service().prefix).unwrap_or(&self.path);
        let kept = Query(self.query.0.iter().filter(|(n, _)| n != "marker").cloned().collect()).with(&[]);
        if kept.is_empty() { path.to_owned() } else { format!("{path}?{kept}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::list::Type;

    const SPEC: ListSpec = ListSpec {
        sorts: &[
            SortKey { name: "created_at", sql: "t.created_at", kind: Type::Int },
            SortKey { name: "name", sql: "t.name", kind: Type::Text },
        ],
        direction: Direction::Descending,
        filters: &[],
    };

    fn page(query: &str) -> Result<(u32, Vec<(&'static str, Direction)>)> {
        let page = SPEC.page(&Query::parse(query))?;
        Ok((page.limit, page.sorts.iter().map(|(key, d)| (key.name, *d)).collect()))
    }

    #[test]
    fn pages() {
        use Direction::{Ascending as A, Descending as D};
        assert_eq!(page("").unwrap(), (1000, vec![("created_at", D)]));
        assert_eq!(page("limit=5&sort_key=name&sort_dir=asc").unwrap(), (5, vec![("name", A)]));
        assert_eq!(
            page("sort_key=name&sort_key=created_at&sort_dir=asc&sort_dir=desc").unwrap().1,
            [("name", A), ("created_at", D)]
        );
        assert_eq!(page("sort=name:asc,created_at").unwrap().1, [("name", A), ("created_at", D)]);
        assert_eq!(page("limit=99999").unwrap().0, 1000);
        for bad in ["limit=-1", "limit=x", "sort_key=secret", "sort_dir=up"] {
            assert!(page(bad).is_err(), "{bad}");
        }
    }
}
