//! Every operation.

use web::{
    Access::{Public, Rule, Token},
    Route, handler,
};

use crate::{data, image, info, member, schema, tag, versions};

/// The table.
pub(crate) const ROUTES: &[Route] = &[
    Route::get("/", Public, handler!(versions::choices)),
    Route::get("/versions", Public, handler!(versions::list)),
    // Images
    Route::get("/v2/images", Rule("get_images"), handler!(image::api::list)),
    // An empty id names no image: without these it would be the list.
    Route::get("/v2/images/", Token, handler!(image::api::nothing)),
    Route::delete("/v2/images/", Token, handler!(image::api::nothing)),
    Route::get("/v2/images/{image_id}", Rule("get_image"), handler!(image::api::show)),
    Route::post("/v2/images", Rule("add_image"), handler!(image::api::create)),
    Route::patch("/v2/images/{image_id}", Rule("modify_image"), handler!(image::api::update)),
    Route::delete("/v2/images/{image_id}", Rule("delete_image"), handler!(image::api::delete)),
    Route::post("/v2/images/{image_id}/actions/deactivate", Rule("deactivate"), handler!(image::api::deactivate)),
    Route::post("/v2/images/{image_id}/actions/reactivate", Rule("reactivate"), handler!(image::api::reactivate)),
    // Their data
    Route::get("/v2/images/{image_id}/file", Rule("download_image"), handler!(data::api::download)),
    Route::put("/v2/images/{image_id}/file", Rule("upload_image"), handler!(data::upload::create)).streaming(),
    // Their tags
    Route::put("/v2/images/{image_id}/tags/{tag}", Rule("modify_image"), handler!(tag::create)),
    Route::delete("/v2/images/{image_id}/tags/{tag}", Rule("modify_image"), handler!(tag::delete)),
    // Projects that they are shared with
    Route::get("/v2/images/{image_id}/members", Rule("get_members"), handler!(member::list)),
    Route::get("/v2/images/{image_id}/members/{member_id}", Rule("get_member"), handler!(member::show)),
    Route::post("/v2/images/{image_id}/members", Rule("add_member"), handler!(member::create)),
    Route::put("/v2/images/{image_id}/members/{member_id}", Rule("modify_member"), handler!(member::update)),
    Route::delete("/v2/images/{image_id}/members/{member_id}", Rule("delete_member"), handler!(member::delete)),
    // What clients learn about all of it
    Route::get("/v2/schemas/image", Token, handler!(schema::image)),
    Route::get("/v2/schemas/images", Token, handler!(schema::images)),
    Route::get("/v2/schemas/member", Token, handler!(schema::member)),
    Route::get("/v2/schemas/members", Token, handler!(schema::members)),
    Route::get("/v2/info/import", Token, handler!(info::import)),
    Route::get("/v2/info/stores", Token, handler!(info::stores)),
];
