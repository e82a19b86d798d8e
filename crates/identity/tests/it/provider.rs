//! An OpenID provider on a loopback port that says whatever a test wants, signed with its own key. The real one is in
//! `tests/e2e/test_sso.py`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

pub struct Provider {
    pub issuer: String,
    shared: Arc<Shared>,
}

struct Shared {
    key: Mutex<(String, EcdsaKeyPair)>,
    answers: Mutex<HashMap<String, Value>>,
    asked: Mutex<Vec<String>>,
}

impl Provider {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            key: Mutex::new(("first".to_owned(), new_key())),
            answers: Mutex::default(),
            asked: Mutex::default(),
        });
        let provider = Self { issuer: issuer.clone(), shared: shared.clone() };
        provider.answer(
            "/.well-known/openid-configuration",
            json!({
                "issuer": issuer, "jwks_uri": format!("{issuer}/keys"), "token_endpoint": format!("{issuer}/token"),
                "authorization_endpoint": format!("{issuer}/login"), "userinfo_endpoint": format!("{issuer}/me"),
                "introspection_endpoint": format!("{issuer}/introspect"),
                "authorization_response_iss_parameter_supported": true,
            }),
        );
        provider.publish_key();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(one(stream, shared.clone()));
            }
        });
        provider
    }

    /// What a path answers from now on; null: 400.
    pub fn answer(&self, path: &str, document: Value) {
        self.shared.answers.lock().unwrap().insert(path.to_owned(), document);
    }

    /// A new key, which signs from now on; published or not.
    pub fn rotate(&self, name: &str) {
        *self.shared.key.lock().unwrap() = (name.to_owned(), new_key());
    }

    pub fn publish_key(&self) {
        let key = self.shared.key.lock().unwrap();
        let point = key.1.public_key().as_ref();
        let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
        let jwk = json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": key.0, "x": x, "y": y });
        drop(key);
        self.answer("/keys", json!({ "keys": [jwk] }));
    }

    pub fn sign(&self, claims: &Value) -> String {
        let key = self.shared.key.lock().unwrap();
        let header = json!({ "alg": "ES256", "kid": key.0 });
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = key.1.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", encode(signature))
    }

    /// How often a path was asked for.
    pub fn asked(&self, path: &str) -> usize {
        self.requests().iter().filter(|text| text.split_whitespace().nth(1) == Some(path)).count()
    }

    /// All requests so far, whole.
    pub fn requests(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }
}

fn new_key() -> EcdsaKeyPair {
    let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
    let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).unwrap()
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

async fn one(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut text = String::new();
    let whole = |text: &str| {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        (body.len() >= length.unwrap_or(0)).then_some(())
    };
    while whole(&text).is_none() {
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).await.unwrap();
        if count == 0 {
            return;
        }
        text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    let path = text.split_whitespace().nth(1).unwrap().to_owned();
    shared.asked.lock().unwrap().push(text);
    let answer = shared.answers.lock().unwrap().get(&path).cloned().unwrap_or(Value::Null);
    let status = if answer.is_null() { "400 Bad Request" } else { "200 OK" };
    let body = answer.to_string();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
}
