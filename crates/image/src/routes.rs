//! Every operation.

use web::{
    Access::{Public, Rule, Token},
    Route, handler,
};

use crate::{
    data, image, import, info, member,
    metadef::{
        definition,
        item::{self, Object, Property, Tag},
        namespace, resource_type,
    },
    schema, tag, task, versions,
};

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
    Route::put("/v2/images/{image_id}/stage", Rule("modify_image"), handler!(data::upload::stage)).streaming(),
    Route::post("/v2/images/{image_id}/import", Rule("modify_image"), handler!(import::api::create)),
    Route::get("/v2/images/{image_id}/tasks", Rule("get_image"), handler!(task::list_of_image)),
    Route::get("/v2/tasks", Rule("tasks_api_access"), handler!(task::list)),
    Route::get("/v2/tasks/{task_id}", Rule("tasks_api_access"), handler!(task::show)),
    Route::delete("/v2/stores/{store_id}/{image_id}", Rule("delete_image"), handler!(info::delete_from_store)),
    // Their tags
    Route::put("/v2/images/{image_id}/tags/{tag}", Rule("modify_image"), handler!(tag::create)),
    Route::delete("/v2/images/{image_id}/tags/{tag}", Rule("modify_image"), handler!(tag::delete)),
    // Projects that they are shared with
    Route::get("/v2/images/{image_id}/members", Rule("get_members"), handler!(member::list)),
    Route::get("/v2/images/{image_id}/members/{member_id}", Rule("get_member"), handler!(member::show)),
    Route::post("/v2/images/{image_id}/members", Rule("add_member"), handler!(member::create)),
    Route::put("/v2/images/{image_id}/members/{member_id}", Rule("modify_member"), handler!(member::update)),
    Route::delete("/v2/images/{image_id}/members/{member_id}", Rule("delete_member"), handler!(member::delete)),
    // Metadata definitions
    Route::get("/v2/metadefs/namespaces", Rule("get_metadef_namespaces"), handler!(namespace::list)),
    Route::get("/v2/metadefs/namespaces/{namespace}", Rule("get_metadef_namespace"), handler!(namespace::show)),
    Route::post("/v2/metadefs/namespaces", Rule("add_metadef_namespace"), handler!(namespace::create)),
    Route::put("/v2/metadefs/namespaces/{namespace}", Rule("modify_metadef_namespace"), handler!(namespace::update)),
    Route::delete("/v2/metadefs/namespaces/{namespace}", Rule("delete_metadef_namespace"), handler!(namespace::delete)),
    Route::get(
        "/v2/metadefs/namespaces/{namespace}/objects",
        Rule("get_metadef_objects"),
        handler!(item::list::<Object>),
    ),
    Route::get(
        "/v2/metadefs/namespaces/{namespace}/objects/{name}",
        Rule("get_metadef_object"),
        handler!(item::show::<Object>),
    ),
    Route::post(
        "/v2/metadefs/namespaces/{namespace}/objects",
        Rule("add_metadef_object"),
        handler!(item::create::<Object>),
    ),
    Route::put(
        "/v2/metadefs/namespaces/{namespace}/objects/{name}",
        Rule("modify_metadef_object"),
        handler!(item::update::<Object>),
    ),
    Route::delete(
        "/v2/metadefs/namespaces/{namespace}/objects/{name}",
        Rule("delete_metadef_object"),
        handler!(item::delete::<Object>),
    ),
    Route::delete(
        "/v2/metadefs/namespaces/{namespace}/objects",
        Rule("delete_metadef_object"),
        handler!(item::delete_all::<Object>),
    ),
    Route::get(
        "/v2/metadefs/namespaces/{namespace}/properties",
        Rule("get_metadef_properties"),
        handler!(item::list::<Property>),
    ),
    Route::get(
        "/v2/metadefs/namespaces/{namespace}/properties/{name}",
        Rule("get_metadef_property"),
        handler!(item::show::<Property>),
    ),
    Route::post(
        "/v2/metadefs/namespaces/{namespace}/properties",
        Rule("add_metadef_property"),
        handler!(item::create::<Property>),
    ),
    Route::put(
        "/v2/metadefs/namespaces/{namespace}/properties/{name}",
        Rule("modify_metadef_property"),
        handler!(item::update::<Property>),
    ),
    Route::delete(
        "/v2/metadefs/namespaces/{namespace}/properties/{name}",
        Rule("remove_metadef_property"),
        handler!(item::delete::<Property>),
    ),
    Route::delete(
        "/v2/metadefs/namespaces/{namespace}/properties",
        Rule("remove_metadef_property"),
        handler!(item::delete_all::<Property>),
    ),
    Route::get("/v2/metadefs/namespaces/{namespace}/tags", Rule("get_metadef_tags"), handler!(item::list::<Tag>)),
    Route::get("/v2/metadefs/namespaces/{namespace}/tags/{name}", Rule("get_metadef_tag"), handler!(item::show::<Tag>)),
    Route::post("/v2/metadefs/namespaces/{namespace}/tags", Rule("add_metadef_tags"), handler!(item::create_tags)),
    Route::post("/v2/metadefs/namespaces/{namespace}/tags/{name}", Rule("add_metadef_tag"), handler!(item::create_tag)),
    Route::put(
        "/v2/metadefs/namespaces/{namespace}/tags/{name}",
        Rule("modify_metadef_tag"),
        handler!(item::update::<Tag>),
    ),
    Route::delete(
        "/v2/metadefs/namespaces/{namespace}/tags/{name}",
        Rule("delete_metadef_tag"),
        handler!(item::delete::<Tag>),
    ),
    Route::delete(
        "/v2/metadefs/namespaces/{namespace}/tags",
        Rule("delete_metadef_tags"),
        handler!(item::delete_all::<Tag>),
    ),
    Route::get("/v2/metadefs/resource_types", Rule("list_metadef_resource_types"), handler!(resource_type::list)),
    Route::get(
        "/v2/metadefs/namespaces/{namespace}/resource_types",
        Rule("get_metadef_resource_type"),
        handler!(resource_type::list_associations),
    ),
    Route::post(
        "/v2/metadefs/namespaces/{namespace}/resource_types",
        Rule("add_metadef_resource_type_association"),
        handler!(resource_type::create),
    ),
    Route::delete(
        "/v2/metadefs/namespaces/{namespace}/resource_types/{name}",
        Rule("remove_metadef_resource_type_association"),
        handler!(resource_type::delete),
    ),
    // What clients learn about all of it
    Route::get("/v2/schemas/image", Token, handler!(schema::image)),
    Route::get("/v2/schemas/images", Token, handler!(schema::images)),
    Route::get("/v2/schemas/member", Token, handler!(schema::member)),
    Route::get("/v2/schemas/members", Token, handler!(schema::members)),
    Route::get("/v2/schemas/metadefs/{name}", Token, handler!(definition::show)),
    Route::get("/v2/info/import", Token, handler!(info::import)),
    Route::get("/v2/info/stores", Token, handler!(info::stores)),
    Route::get("/v2/info/stores/detail", Rule("stores_info_detail"), handler!(info::stores_detail)),
    Route::get("/v2/info/usage", Token, handler!(info::usage)),
];
