//! Malformed requests over every route: by what a route would take, changed in one or more places, and by nonsense.
//!
//! Whatever comes, it is answered, and never with our own failure; and it leaves no memory behind. The same seed makes the
//! same requests: `NACRE_FUZZ_SEED`, `NACRE_FUZZ_REQUESTS` (`make fuzz` asks for many).

use std::{fs, time::Instant};

use axum::body::Body;
use http::{HeaderName, HeaderValue, Request};
use serde_json::{Value, json};

use crate::walk::Walk;

/// Requests in a run of all tests.
const REQUESTS: usize = 2_000;
/// A new victim so many times a run, for what earlier requests deleted.
const VICTIMS: usize = 20;
/// What memory may grow by, once the first tenth has warmed up caches.
const GROWTH_MIB_MAX: u64 = 96;

#[tokio::test]
async fn malformed_requests_are_answered() {
    let number = |name: &str, otherwise: u64| std::env::var(name).map_or(otherwise, |text| text.parse().unwrap());
    let seed = number("NACRE_FUZZ_SEED", 20_261_124);
    let requests = usize::try_from(number("NACRE_FUZZ_REQUESTS", REQUESTS as u64)).unwrap();
    eprintln!("fuzz: NACRE_FUZZ_SEED={seed} NACRE_FUZZ_REQUESTS={requests}");
    let mut random = Random(seed | 1);
    let mut walk = Walk::new().await;
    let (started, mut warm, mut statuses) = (Instant::now(), 0, std::collections::BTreeMap::new());
    let mut wrong = Vec::new();
    for at in 0..requests {
        if at % (requests / VICTIMS).max(1) == 0 && at > 0 {
            walk.plant_anew().await;
        }
        if at == requests / 10 {
            warm = resident_mib();
        }
        let Some((shown, request)) = malformed(&mut random, &walk) else { continue };
        let response = walk.cloud.anyone.request(request).await;
        *statuses.entry(response.status.as_u16()).or_insert(0) += 1;
        // 501: this installation can't. 503 is as true: no host is there.
        if response.status.is_server_error() && !matches!(response.status.as_u16(), 501 | 503) {
            wrong.push(format!("{} {}\n    {shown}", response.status, String::from_utf8_lossy(&response.body)));
        }
    }
    let grown = resident_mib().saturating_sub(warm);
    eprintln!("fuzz: {statuses:?}, {:.0} s, grown by {grown} MiB over {warm} MiB", started.elapsed().as_secs_f64());
    wrong.sort();
    assert!(wrong.is_empty(), "{} with seed {seed}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(grown <= GROWTH_MIB_MAX, "memory grew by {grown} MiB");
}

/// xorshift64*: the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % limit.max(1)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}

/// A request that is wrong somewhere, and how a failure shows it. None where even `http` would not carry it.
fn malformed(random: &mut Random, walk: &Walk) -> Option<(String, Request<Body>)> {
    let routes = walk.routes();
    let (service, route) = routes[random.below(routes.len())];
    let path = path(random, walk, service.prefix, route.path);
    let method = if random.one_in(20) {
        random.of(&[http::Method::GET, http::Method::PUT, http::Method::PATCH, http::Method::OPTIONS])
    } else {
        route.method.as_http()
    };
    let known = walk.seeds.change(route, &format!("{}{}", service.prefix, route.path));
    let body = body(random, known);
    let mut request = Request::builder().method(method.clone()).uri(&path).header("host", "nacre.test");
    for (name, value) in headers(random, service.versions.map_or("compute", |v| v.service_type)) {
        request = request.header(HeaderName::from_static(name), HeaderValue::from_bytes(&value).ok()?);
    }
    let head: String = String::from_utf8_lossy(&body).chars().take(300).collect();
    let shown = format!("{method} {path} {:?} {head}", request.headers_ref()?);
    Some((shown, request.body(Body::from(body)).ok()?))
}

fn path(random: &mut Random, walk: &Walk, prefix: &str, pattern: &str) -> String {
    let junk = ["0", "-1", "%00", "%F0%9F%A6%AA", "%27%3B--", "..%2F..%2Fetc", "%FF%FE", "null", "%25s", "a%20b", "*"];
    let mut path = prefix.to_owned();
    let mut collection = "";
    for part in pattern.trim_start_matches('/').split('/') {
        path.push('/');
        if !part.starts_with('{') {
            collection = part;
            path.push_str(part);
        } else if random.one_in(4) {
            path.push_str(&if random.one_in(8) { "n".repeat(5_000) } else { random.of(&junk).to_owned() });
        } else {
            path.push_str(&walk.seeds.find(collection).unwrap_or_else(|| "7".to_owned()));
        }
    }
    if random.one_in(2) {
        let names = [
            "limit",
            "marker",
            "sort_key",
            "sort_dir",
            "fields",
            "changes-since",
            "name",
            "all_tenants",
            "page_reverse",
            "status",
            "id",
            "tags",
            "tags-any",
            "reverse",
            "project_id",
            "offset",
            "deleted",
            "ip",
            "sort",
            "visibility",
        ];
        let values = [
            "",
            "-1",
            "0",
            "99999999999999999999",
            "x",
            "%00",
            "%FF",
            "true",
            "1e9",
            "name:asc,id",
            "in:",
            "%",
            "a,b,,c",
            "2026-13-45T99:99",
            "1970-01-01",
            "%5B",
            "gt:x",
            "(",
            "' or 1=1",
        ];
        let pairs: Vec<String> = (0..=random.below(4))
            .map(|_| format!("{}={}", random.of(&names), random.of(&values).replace(' ', "+")))
            .collect();
        path = format!("{path}?{}", pairs.join("&"));
    }
    path
}

fn headers(random: &mut Random, service: &str) -> Vec<(&'static str, Vec<u8>)> {
    let mut headers = Vec::new();
    let token =
        random.of(&["root", "root", "victim", "victim", "member", "stranger", "domain manager", "junk", "\u{e9}"]);
    headers.push(("x-auth-token", token.as_bytes().to_vec()));
    if random.one_in(2) {
        let version = random.of(&["latest", "2.1", "2.30", "2.79", "2.9999", "x", "", "-1.-1", "2.1.1", "\u{1f9aa}"]);
        headers.push(("openstack-api-version", format!("{service} {version}").into_bytes()));
    }
    let kinds = [
        "application/json",
        "application/json",
        "application/json",
        "text/plain",
        "application/octet-stream",
        "",
        "application/openstack-images-v2.1-json-patch",
        "application/openstack-images-v2.0-json-patch",
        "x/\u{e9}",
    ];
    headers.push(("content-type", random.of(&kinds).as_bytes().to_vec()));
    let others: [(&str, &[u8]); 8] = [
        ("range", b"bytes=5-1,-"),
        ("if-match", b"revision_number=x"),
        ("x-subject-token", b"\xff\xfe"),
        ("content-encoding", b"gzip"),
        ("x-forwarded-host", b"a b\xff"),
        ("accept", b"text/xml"),
        ("x-forwarded-proto", b"gopher"),
        ("x-openstack-request-id", b"req-' or 1"),
    ];
    if random.one_in(3) {
        let (name, value) = random.of(&others);
        headers.push((name, value.to_vec()));
    }
    headers
}

fn body(random: &mut Random, known: Option<Value>) -> Vec<u8> {
    match (random.below(10), known) {
        (0, _) => random.of(&raw()),
        (1..=2, None) => random.of(&raw()),
        (_, None) => Vec::new(),
        (_, Some(mut body)) => {
            for _ in 0..=random.below(3) {
                mutate(random, &mut body, 0);
            }
            let text = body.to_string();
            match random.below(12) {
                0 => text.as_bytes()[..random.below(text.len())].to_vec(),
                // The same key twice, with another value.
                1 => text.replacen('{', "{\"name\": 1, \"name\": [2], ", 2).into_bytes(),
                2 => text.replace('"', "\\u0000\"").into_bytes(),
                _ => text.into_bytes(),
            }
        }
    }
}

fn raw() -> Vec<Vec<u8>> {
    let texts = [
        "",
        "{",
        "[]",
        "null",
        "7",
        "\"x\"",
        "1e999",
        "{\"a\": \"\\ud800\"}",
        "{\"a\": \"\\u0000\"}",
        "{}{}",
        "\u{feff}{}",
    ];
    let deep = ["[".repeat(50_000), "{\"a\":".repeat(50_000), format!("{}1{}", "[".repeat(120), "]".repeat(120))];
    let bytes = [vec![0xff; 64], vec![0; 64], vec![b' '; 5_000]];
    texts.iter().map(|text| text.as_bytes().to_vec()).chain(deep.map(String::into_bytes)).chain(bytes).collect()
}

/// Another value in one place, a key more, a key less.
fn mutate(random: &mut Random, value: &mut Value, depth: usize) {
    let inner = match value {
        Value::Object(map) if !map.is_empty() && !random.one_in(6) => {
            let key = map.keys().nth(random.below(map.len())).cloned().unwrap_or_default();
            match random.below(12) {
                0 => return drop(map.remove(&key)),
                1 => {
                    let more =
                        ["id", "project_id", "tenant_id", "metadata", "tags", "host", "enabled", "description", "x"];
                    map.insert(random.of(&more).to_owned(), junk(random));
                    return;
                }
                _ => map.get_mut(&key),
            }
        }
        Value::Array(list) if !list.is_empty() && !random.one_in(4) => {
            let at = random.below(list.len());
            if random.one_in(8) {
                let again = list[at].clone();
                list.extend(std::iter::repeat_n(again, 300));
                return;
            }
            list.get_mut(at)
        }
        _ => None,
    };
    match inner {
        Some(inner) if depth < 8 => mutate(random, inner, depth + 1),
        _ => *value = junk(random),
    }
}

fn junk(random: &mut Random) -> Value {
    let all = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(0),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(1e300),
        json!(0.5),
        json!(""),
        json!(" "),
        json!("\u{0}"),
        json!("x\u{0}y"),
        json!("\u{1f9aa}\u{202e}"),
        json!("' or 1=1 --"),
        json!("%s%n%(x)s"),
        json!("../../etc/passwd"),
        json!("http://169.254.169.254/"),
        json!("::ffff:0:0/0"),
        json!("10.0.0.0/99"),
        json!("x".repeat(300)),
        json!("x".repeat(100_000)),
        json!([]),
        json!({}),
        json!([null]),
        json!([[[[[]]]]]),
        json!({"": {"": ""}}),
        json!({"id": {"id": 1}}),
        json!([1, "a", {"b": null}]),
    ];
    random.of(&all)
}

/// This process's memory that is in RAM.
fn resident_mib() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096 / (1 << 20)
}
