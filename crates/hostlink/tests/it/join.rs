//! Joining, and mutual TLS.

use std::sync::Arc;

use hostlink::{
    ImageRequest,
    client::Endpoint,
    join::{JoinError, JoinToken, join},
    pki::{Authority, Identity},
    server::{Hub, TlsListener},
    to_agent,
};
use model::id::HostId;
use tokio::sync::mpsc;

use crate::{Agent, Scripted, Told, soon};

struct Cloud {
    address: String,
    token: JoinToken,
    told: mpsc::UnboundedReceiver<Told>,
}

async fn cloud() -> Cloud {
    let authority = Arc::new(Authority::generate().unwrap());
    let token = JoinToken::generate(&authority);
    let listener = TlsListener::bind(([127, 0, 0, 1], 0).into(), authority).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (control, told) = Scripted::new();
    *control.invited.lock().unwrap() = Some(token.secret.clone());
    tokio::spawn(listener.serve(Hub::default(), control, std::future::pending()));
    Cloud { address, token, told }
}

impl Cloud {
    fn endpoint(&self, identity: &Identity) -> Endpoint {
        Endpoint::Tls { address: self.address.clone(), identity: identity.clone() }
    }
}

#[tokio::test]
async fn a_token_buys_one_certificate_which_speaks_for_one_host() {
    let mut cloud = cloud().await;
    let (host, other) = (HostId::random(), HostId::random());
    let identity = soon(join(&cloud.address, &cloud.token, &host, "h1")).await.unwrap();
    assert_eq!(cloud.told.recv().await, Some(Told::Enrolled("h1".into())));
    let again = soon(join(&cloud.address, &cloud.token, &other, "h2")).await;
    assert!(matches!(again, Err(JoinError::Refused(_))), "the token is spent");

    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Identity::load(folder.path()).unwrap(), None);
    identity.save(folder.path()).unwrap();
    let identity = Identity::load(folder.path()).unwrap().unwrap();

    let mut agent = Agent::connect(&cloud.endpoint(&identity), &host).await.unwrap();
    assert!(matches!(agent.next().await, Some(to_agent::Message::Welcome(_))));
    assert_eq!(cloud.told.recv().await, Some(Told::Joined("h1".into())));
    let refused = Agent::connect(&cloud.endpoint(&identity), &other).await.err().unwrap();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied, "another host's name");
    let foreign = ImageRequest { host_id: other.to_string(), image_id: "big".into() };
    assert_eq!(agent.client.fetch_image(foreign).await.unwrap_err().code(), tonic::Code::PermissionDenied);
}

#[tokio::test]
async fn another_cloud_is_not_trusted() {
    let (cloud, other) = (cloud().await, cloud().await);
    let host = HostId::random();
    let fooled = soon(join(&cloud.address, &other.token, &host, "h1")).await;
    assert!(matches!(fooled, Err(JoinError::Connect(_))), "the token names another authority");

    let foreign = soon(join(&other.address, &other.token, &host, "h1")).await.unwrap();
    assert!(cloud.endpoint(&foreign).connect().await.is_err(), "the host does not trust this authority");
    let own = soon(join(&cloud.address, &cloud.token, &host, "h1")).await.unwrap();
    let mixed = Identity { authority_pem: own.authority_pem, ..foreign };
    // TLS 1.3 tells a client late that its certificate was refused: at the first call at the latest.
    if let Ok(mut client) = cloud.endpoint(&mixed).connect().await {
        let request = ImageRequest { host_id: host.to_string(), image_id: "big".into() };
        assert!(client.fetch_image(request).await.is_err(), "nor this authority the host");
    }
}
