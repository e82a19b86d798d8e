//! Access rules of application credentials: which requests a token may make at all.
//!
//! Keystone's language: `*` and `{name}` stand for one segment's characters, `**` for any. Paths are those below a
//! service's prefix (`/v2.1/servers`) or, as DevStack shows them, with it (`/compute/v2.1/servers`).

/// One kind of request that is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRule {
    /// The service's type in the catalog: `compute`.
    pub service: String,
    /// The method.
    pub method: String,
    /// The path's pattern.
    pub path: String,
}

/// Other names that a service's type has had, by its name here.
const ALIASES: &[(&str, &[&str])] = &[
    ("volume", &["block-storage", "block-store", "volumev2", "volumev3"]),
    ("load-balancer", &["load-balancing"]),
    ("object", &["object-store", "object-storage"]),
];

impl AccessRule {
    /// Whether it allows the request; `below` is the path without the service's prefix.
    pub fn allows(&self, service: &str, method: &str, path: &str, below: &str) -> bool {
        let alias = |(name, aliases): &(&str, &[&str])| *name == service && aliases.contains(&self.service.as_str());
        let of_service = self.service == service || ALIASES.iter().any(alias);
        of_service && self.method == method && [below, path].iter().any(|path| matches(&self.path, path))
    }
}

/// A piece of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Literal(u8),
    /// One or more characters that are no slash.
    Segment,
    /// Anything.
    Rest,
}

fn pieces(pattern: &str) -> Vec<Piece> {
    let bytes = pattern.as_bytes();
    let mut pieces = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let closing = || bytes[at..].iter().position(|b| *b == b'}');
        let (piece, length) = match bytes[at] {
            b'*' if bytes.get(at + 1) == Some(&b'*') => (Piece::Rest, 2),
            b'*' => (Piece::Segment, 1),
            b'{' => closing().map_or((Piece::Literal(b'{'), 1), |end| (Piece::Segment, end + 1)),
            other => (Piece::Literal(other), 1),
        };
        pieces.push(piece);
        at += length;
    }
    pieces
}

/// Whether the whole path fits the pattern. Takes a pass of the path for each piece, whatever the pattern is.
fn matches(pattern: &str, path: &str) -> bool {
    let path = path.as_bytes();
    // Where in the path one may stand after the pieces so far.
    let mut open = vec![false; path.len() + 1];
    open[0] = true;
    for piece in pieces(pattern) {
        let mut next = vec![false; path.len() + 1];
        for at in 0..=path.len() {
            match piece {
                Piece::Literal(byte) => next[at] = at > 0 && open[at - 1] && path[at - 1] == byte,
                Piece::Segment => next[at] = at > 0 && path[at - 1] != b'/' && (open[at - 1] || next[at - 1]),
                Piece::Rest => next[at] = open[at] || (at > 0 && next[at - 1]),
            }
        }
        open = next;
    }
    open[path.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let cases = [
            ("/v2.1/servers", "/v2.1/servers", true),
            ("/v2.1/servers", "/v2.1/servers/a", false),
            ("/v2.1/servers", "/v2x1/servers", false),
            ("/v2.1/servers/*", "/v2.1/servers/a", true),
            ("/v2.1/servers/*", "/v2.1/servers/", false),
            ("/v2.1/servers/*", "/v2.1/servers/a/ips", false),
            ("/v2.1/servers/*/ips", "/v2.1/servers/a/ips", true),
            ("/v2.1/servers/{server_id}/ips", "/v2.1/servers/a/ips", true),
            ("/v2.1/**", "/v2.1/servers/a/ips", true),
            ("/v2.1/**", "/v2.0/servers", false),
            ("/**/ips", "/v2.1/servers/a/ips", true),
            ("**", "/anything", true),
            ("/v2.1/servers/a*", "/v2.1/servers/abc", true),
            ("/{", "/{", true),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn requests() {
        let rule = AccessRule { service: "compute".into(), method: "GET".into(), path: "/v2.1/servers".into() };
        let cases = [
            ("compute", "GET", "/v2.1/servers", true),
            ("compute", "POST", "/v2.1/servers", false),
            ("image", "GET", "/v2.1/servers", false),
            ("compute", "GET", "/v2.1/flavors", false),
        ];
        for (service, method, below, expected) in cases {
            let path = format!("/{service}{below}");
            assert_eq!(rule.allows(service, method, &path, below), expected, "{service} {method} {below}");
        }
        let full = AccessRule { path: "/compute/v2.1/servers".into(), ..rule };
        assert!(full.allows("compute", "GET", "/compute/v2.1/servers", "/v2.1/servers"));
        let volumes = AccessRule { service: "block-storage".into(), method: "GET".into(), path: "/v3/volumes".into() };
        assert!(volumes.allows("volume", "GET", "/volume/v3/volumes", "/v3/volumes"));
    }
}
