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

/// The table.
pub(crate) const RULES: &[Rule] = &[
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
    rule("deactivate", MEMBER, "Withhold an image's data"),
    rule("reactivate", MEMBER, "Give an image's data out again"),
];

const fn rule(name: &'static str, check: &'static str, description: &'static str) -> Rule {
    Rule { name, check, scopes: PROJECT, description }
}
