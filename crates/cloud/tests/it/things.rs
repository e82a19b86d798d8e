//! A service for tests: `/things`, which are images in the database as far as anybody else is concerned.

use std::{collections::BTreeMap, sync::Arc};

use axum::body::Body;
use http::{Method, Request, Response};
use model::{Error, Result, id::ImageId, id::ProjectId};
use serde_json::json;
use store::{
    Db,
    images::{self, Image},
};
use testkit::auth::FakeAuth;
use web::{
    Access::{Public, Rule},
    App, Cx, FaultStyle, Reply, Route, Service, Target, handler, policy,
};

const ROUTES: &[Route] = &[
    Route::post("/things", Rule("things:create"), handler!(create)),
    Route::get("/things/{id}", Rule("things:show"), handler!(show)),
    Route::delete("/things/{id}", Rule("things:delete"), handler!(delete)),
    Route::post("/login", Public, handler!(login)),
];

const fn rule(name: &'static str, check: &'static str) -> policy::Rule {
    policy::Rule { name, check, scopes: &[], description: "" }
}

const POLICY: &[policy::Rule] = &[
    rule("things:create", "rule:project_member_or_admin"),
    rule("things:show", "rule:project_reader_or_admin"),
    rule("things:delete", "rule:project_member_or_admin"),
];

async fn create(cx: &Cx) -> Result<Reply> {
    let project = cx.authorize_own_project()?.clone();
    let body: serde_json::Value = cx.json()?;
    if body["name"].is_null() {
        return Err(Error::bad_request("NoName", "A thing needs a name."));
    }
    let mut tx = cx.db().begin().await?;
    let thing = thing(&project, tx.now());
    images::insert(&mut tx, &thing).await?;
    tx.commit().await?;
    Ok(Reply::created(&json!({"id": thing.id, "secret": format!("only for {}", cx.request_id)}))?
        .with("x-thing", "yes"))
}

async fn show(cx: &Cx) -> Result<Reply> {
    let thing = find(cx).await?;
    Reply::ok(&json!({ "id": thing.id }))
}

async fn delete(cx: &Cx) -> Result<Reply> {
    let thing = find(cx).await?;
    let mut tx = cx.db().begin().await?;
    images::mark_deleted(&mut tx, &thing.id).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}

async fn login(cx: &Cx) -> Result<Reply> {
    match cx.query.flag("right")? {
        Some(true) => Ok(Reply::no_content()),
        _ => Err(Error::unauthenticated("Unauthorized", "No.")),
    }
}

async fn find(cx: &Cx) -> Result<Image> {
    let not_found = || Error::not_found("NoThing", "There is no such thing.");
    let thing = images::get(&mut *cx.db().read().await?, &ImageId::new(cx.param("id"))).await?.ok_or_else(not_found)?;
    cx.authorize_found(&Target::project(&thing.owner), not_found)?;
    Ok(thing)
}

/// An image that waits for data.
pub fn thing(project: &ProjectId, now: model::Timestamp) -> Image {
    Image::new(ImageId::random(), project.clone(), now)
}

/// The router over this database, with `/nacre` and `/toy`.
pub fn app(db: &Db) -> Arc<App> {
    let toy = Service {
        name: "toy",
        prefix: "/toy",
        routes: ROUTES,
        policy: POLICY,
        versions: None,
        faults: FaultStyle::Nova,
        state: Arc::new(()),
    };
    let services = vec![cloud::service(cloud::State::new(db.clone())), toy];
    let tables: Vec<_> = services.iter().map(|service| service.policy).collect();
    let policy = web::policy::Policy::new(&tables, &BTreeMap::new()).unwrap();
    App::new(db.clone(), services, Arc::new(FakeAuth), policy, "http").unwrap()
}

/// A request with a token; a body makes it a POST.
pub fn request(token: &str, path: &str, body: Option<&str>) -> Request<Body> {
    let method = if body.is_some() { Method::POST } else { Method::GET };
    let mut request =
        Request::builder().method(method).uri(path).body(body.unwrap_or_default().to_owned().into()).unwrap();
    if !token.is_empty() {
        request.headers_mut().insert("x-auth-token", token.parse().unwrap());
    }
    request
}

/// What came back, as JSON.
pub async fn json(response: Response<Body>, status: u16) -> serde_json::Value {
    use http_body_util::BodyExt;
    let got = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(got, status, "{}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap_or_default()
}
