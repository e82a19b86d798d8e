//! Every rule, as Glance names it and with its default.

use web::policy::{Rule, ScopeType};

const PROJECT: &[ScopeType] = &[ScopeType::Project];

const MEMBER: &str = "rule:context_is_admin or (role:member and project_id:%(project_id)s)";
const READER: &str = "rule:context_is_admin or (role:reader and project_id:%(project_id)s)";
const CREATE: &str = "rule:context_is_admin or (role:member and project_id:%(project_id)s and project_id:%(owner)s)";
const SEE: &str = "rule:context_is_admin or (role:reader and (project_id:%(project_id)s or project_id:%(member_id)s or \
                   'community':%(visibility)s or 'public':%(visibility)s or 'shared':%(visibility)s))";
const DOWNLOAD: &str = "rule:context_is_admin or (role:member and (project_id:%(project_id)s or \
                        project_id:%(member_id)s or 'community':%(visibility)s or 'public':%(visibility)s or \
                        'shared':%(visibility)s))";
const SHARING: &str =
    "rule:context_is_admin or (role:reader and (project_id:%(project_id)s or project_id:%(member_id)s))";
const SHARED_WITH: &str = "rule:context_is_admin or (role:member and project_id:%(member_id)s)";

const SEE_METADEF: &str =
    "rule:context_is_admin or (role:reader and (project_id:%(project_id)s or 'public':%(visibility)s))";
const METADEF_ADMIN: &str = "rule:metadef_admin";

/// The table.
pub const RULES: &[Rule] = &[
    rule("add_image", CREATE, "Create an image"),
    rule("delete_image", MEMBER, "Delete an image"),
    rule("get_image", SEE, "Show an image"),
    rule("get_images", READER, "List images"),
    rule("modify_image", MEMBER, "Update an image, its tags included"),
    rule("publicize_image", "rule:context_is_admin", "Make an image public"),
    rule("communitize_image", MEMBER, "Make an image a community image"),
    rule("download_image", DOWNLOAD, "Download an image's data"),
    rule("upload_image", MEMBER, "Upload an image's data"),
    rule("add_member", MEMBER, "Share an image with a project"),
    rule("delete_member", MEMBER, "Stop sharing an image with a project"),
    rule("get_member", SHARING, "Show a member of an image"),
    rule("get_members", SHARING, "List an image's members"),
    rule("modify_member", SHARED_WITH, "Accept or reject an image that is shared with one's project"),
    rule("tasks_api_access", "rule:context_is_admin", "List and show tasks of all projects"),
    rule("stores_info_detail", "rule:context_is_admin or role:service", "Show where data lies"),
    rule("deactivate", MEMBER, "Withhold an image's data"),
    rule("reactivate", MEMBER, "Give an image's data out again"),
    rule("get_metadef_namespace", SEE_METADEF, "Show a namespace of metadata definitions"),
    rule("get_metadef_namespaces", READER, "List namespaces of metadata definitions"),
    rule("add_metadef_namespace", METADEF_ADMIN, "Create a namespace of metadata definitions"),
    rule("modify_metadef_namespace", METADEF_ADMIN, "Update a namespace of metadata definitions"),
    rule("delete_metadef_namespace", METADEF_ADMIN, "Delete a namespace of metadata definitions"),
    rule("get_metadef_object", SEE_METADEF, "Show an object of metadata definitions"),
    rule("get_metadef_objects", SEE_METADEF, "List objects of metadata definitions"),
    rule("add_metadef_object", METADEF_ADMIN, "Create an object of metadata definitions"),
    rule("modify_metadef_object", METADEF_ADMIN, "Update an object of metadata definitions"),
    rule("delete_metadef_object", METADEF_ADMIN, "Delete an object of metadata definitions"),
    rule("get_metadef_property", SEE_METADEF, "Show a property of metadata definitions"),
    rule("get_metadef_properties", SEE_METADEF, "List properties of metadata definitions"),
    rule("add_metadef_property", METADEF_ADMIN, "Create a property of metadata definitions"),
    rule("modify_metadef_property", METADEF_ADMIN, "Update a property of metadata definitions"),
    rule("remove_metadef_property", METADEF_ADMIN, "Delete a property of metadata definitions"),
    rule("get_metadef_tag", SEE_METADEF, "Show a tag of metadata definitions"),
    rule("get_metadef_tags", SEE_METADEF, "List tags of metadata definitions"),
    rule("add_metadef_tag", METADEF_ADMIN, "Create a tag of metadata definitions"),
    rule("modify_metadef_tag", METADEF_ADMIN, "Update a tag of metadata definitions"),
    rule("delete_metadef_tag", METADEF_ADMIN, "Delete a tag of metadata definitions"),
    rule("add_metadef_tags", METADEF_ADMIN, "Set the tags of metadata definitions"),
    rule("delete_metadef_tags", METADEF_ADMIN, "Delete all tags of metadata definitions"),
    rule(
        "list_metadef_resource_types",
        "rule:context_is_admin or (role:reader and (project_id:%(project_id)s or 'public':%(visibility)s))",
        "List types of resources that have metadata definitions",
    ),
    rule("get_metadef_resource_type", SEE_METADEF, "List the types of resources that a namespace describes"),
    rule("add_metadef_resource_type_association", METADEF_ADMIN, "Say that a namespace describes a type of resources"),
    rule("remove_metadef_resource_type_association", METADEF_ADMIN, "Say that it does not any more"),
    rule("metadef_admin", "role:admin", "Who keeps the metadata definitions"),
];

const fn rule(name: &'static str, check: &'static str, description: &'static str) -> Rule {
    Rule { name, check, scopes: PROJECT, description }
}
