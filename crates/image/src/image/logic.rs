//! Decisions about images.

use model::{
    Error, ErrorKind, Result, Timestamp,
    id::{ImageId, ProjectId},
};
use serde_json::{Map, Value};
use store::{
    images::{self, Image, Status, Viewer, Visibility},
    quotas::Charge,
};
use web::{Cx, Target};

use super::wire::{Change, Op};
use crate::schema;

/// Additional properties that an image can have.
const PROPERTIES_MAX: usize = 128;
/// Tags that an image can have.
const TAGS_MAX: usize = 128;
/// MiB of images of a project, unless the operator says otherwise: 1 TiB.
const SIZE_DEFAULT: i64 = 1 << 20;

/// One image more.
pub(crate) fn count_charge() -> Charge {
    images::deliveries::count_charge()
}

/// So many MiB more.
pub(crate) fn size_charge(mebibytes: i64) -> Charge {
    Charge { resource: images::SIZE_QUOTA, default_limit: SIZE_DEFAULT, amount: mebibytes }
}

/// Whether the caller is an administrator.
pub(crate) fn is_admin(cx: &Cx) -> bool {
    cx.can("context_is_admin", &Target::none())
}

/// Whether the image exists for someone of this project.
pub(crate) fn is_visible(image: &Image, project: Option<&ProjectId>, is_member: bool, is_admin: bool) -> bool {
    if image.status == Status::Deleted {
        return false;
    }
    let by_visibility = match image.visibility {
        Visibility::Public | Visibility::Community => true,
        Visibility::Shared => is_member,
        Visibility::Private => false,
    };
    is_admin || project == Some(&image.owner) || by_visibility
}

/// Who looks at a list.
pub(crate) fn viewer(cx: &Cx) -> Result<Viewer> {
    match (is_admin(cx), cx.caller.project()) {
        (true, project) => Ok(Viewer::Admin(project.cloned())),
        (false, Some(project)) => Ok(Viewer::Project(project.clone())),
        (false, None) => Err(Error::forbidden("Forbidden", "This needs a token that is scoped to a project.")),
    }
}

/// The image that a body asks for.
pub(crate) fn new_image(body: Map<String, Value>, project: &ProjectId, now: Timestamp) -> Result<Image> {
    let mut image = Image::new(ImageId::random(), project.clone(), now);
    if let Some(id) = body.get("id").and_then(Value::as_str) {
        image.id = ImageId::new(id.to_ascii_lowercase());
    }
    for (name, value) in body {
        set(&mut image, &name, value);
    }
    pair_formats(&mut image)?;
    check_counts(&image)?;
    Ok(image)
}

/// Sets an attribute or a property to a value that its schema allows.
fn set(image: &mut Image, name: &str, value: Value) {
    let text = || value.as_str().map(str::to_owned);
    match name {
        "id" => {}
        "name" => image.name = text(),
        "visibility" => {
            image.visibility = value.as_str().and_then(Visibility::parse).unwrap_or(image.visibility);
        }
        "protected" => image.protected = value.as_bool().unwrap_or_default(),
        "os_hidden" => image.hidden = value.as_bool().unwrap_or_default(),
        // Null stands for the owner that it has.
        "owner" => image.owner = text().map_or_else(|| image.owner.clone(), ProjectId::new),
        "container_format" => image.container_format = text(),
        "disk_format" => image.disk_format = text(),
        "min_ram" => image.min_ram = value.as_i64().unwrap_or_default(),
        "min_disk" => image.min_disk = value.as_i64().unwrap_or_default(),
        "tags" => {
            let tags = value.as_array().into_iter().flatten();
            image.tags = tags.filter_map(|tag| tag.as_str().map(str::to_owned)).collect();
        }
        property => {
            image.properties.insert(property.to_owned(), text().unwrap_or_default());
        }
    }
}

/// Amazon's kernels, ram disks and machine images name their format twice; one may be left out.
fn pair_formats(image: &mut Image) -> Result<()> {
    const AMAZON: [&str; 3] = ["aki", "ari", "ami"];
    let amazon = |format: &Option<String>| format.clone().filter(|f| AMAZON.contains(&f.as_str()));
    match (amazon(&image.disk_format), amazon(&image.container_format)) {
        (None, None) => Ok(()),
        (Some(disk), _) if image.container_format.is_none() => {
            image.container_format = Some(disk);
            Ok(())
        }
        (_, Some(container)) if image.disk_format.is_none() => {
            image.disk_format = Some(container);
            Ok(())
        }
        (disk, container) if disk == container => Ok(()),
        _ => Err(Error::bad_request(
            "InvalidImageFormats",
            "Invalid mix of disk and container formats. When setting a disk or container format to one of 'aki', \
             'ari', or 'ami', the container and disk formats must match.",
        )),
    }
}

/// Whether an image carries no more than it may.
pub(crate) fn check_counts(image: &Image) -> Result<()> {
    let over = |what: &str, count: usize, max: usize| {
        if count <= max {
            return Ok(());
        }
        let text = format!(
            "The limit has been exceeded on the number of allowed image {what}. Attempted: {count}, Maximum: {max}"
        );
        Err(Error::new(ErrorKind::TooLarge, "LimitExceeded", text))
    };
    over("properties", image.properties.len(), PROPERTIES_MAX)?;
    over("tags", image.tags.len(), TAGS_MAX)
}

/// Applies one change of a patch.
pub(crate) fn apply(image: &mut Image, change: Change, is_admin: bool) -> Result<()> {
    let name = change.name.as_str();
    schema::refuse_read_only(name)?;
    let known = schema::attribute(name).is_some();
    let missing = || Error::conflict("NoSuchProperty", format!("Property {name} does not exist."));
    match change.op {
        Op::Remove if known => Err(Error::forbidden("Forbidden", format!("Property {name} may not be removed."))),
        Op::Remove => image.properties.remove(name).map(|_| ()).ok_or_else(missing),
        Op::Replace(_) if !known && !image.properties.contains_key(name) => Err(missing()),
        Op::Add(value) | Op::Replace(value) => {
            schema::check(name, &value)?;
            refuse_change(image, name, is_admin)?;
            set(image, name, value);
            Ok(())
        }
    }
}

fn refuse_change(image: &Image, name: &str, is_admin: bool) -> Result<()> {
    match name {
        "id" => Err(Error::forbidden("ReadonlyProperty", "Attribute 'id' is read-only.")),
        "owner" if !is_admin => Err(Error::forbidden("Forbidden", "Owner can't be updated by non admin.")),
        "disk_format" | "container_format" if image.status != Status::Queued => {
            Err(Error::forbidden("Forbidden", format!("Attribute {name} can be only replaced for a queued image.")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn image() -> Image {
        let mut image = Image::new(ImageId::new("i"), ProjectId::new("mine"), Timestamp(0));
        image.properties.insert("os_distro".into(), "debian".into());
        image
    }

    #[test]
    fn who_sees_what() {
        use Visibility::{Community, Private, Public, Shared};
        let (mine, other) = (ProjectId::new("mine"), ProjectId::new("other"));
        // visibility, project, member, admin -> seen
        let table = [
            (Private, Some(&mine), false, false, true),
            (Private, Some(&other), false, false, false),
            (Private, Some(&other), true, false, false),
            (Private, Some(&other), false, true, true),
            (Private, None, false, false, false),
            (Shared, Some(&other), false, false, false),
            (Shared, Some(&other), true, false, true),
            (Community, Some(&other), false, false, true),
            (Public, Some(&other), false, false, true),
        ];
        for (visibility, project, member, admin, seen) in table {
            let image = Image { visibility, ..image() };
            assert_eq!(is_visible(&image, project, member, admin), seen, "{visibility:?} {project:?} {member} {admin}");
            let deleted = Image { status: Status::Deleted, ..image };
            assert!(!is_visible(&deleted, project, member, admin));
        }
    }

    #[test]
    fn changes() {
        let change = |op: Op, name: &str| Change { op, name: name.to_owned() };
        let table: Vec<(Change, bool, Result<(), ErrorKind>)> = vec![
            (change(Op::Replace(json!("n")), "name"), false, Ok(())),
            (change(Op::Add(json!("n")), "name"), false, Ok(())),
            (change(Op::Replace(json!(null)), "name"), false, Ok(())),
            (change(Op::Remove, "name"), false, Err(ErrorKind::Forbidden)),
            (change(Op::Remove, "os_distro"), false, Ok(())),
            (change(Op::Remove, "other"), false, Err(ErrorKind::Conflict)),
            (change(Op::Replace(json!("x")), "other"), false, Err(ErrorKind::Conflict)),
            (change(Op::Add(json!("x")), "other"), false, Ok(())),
            (change(Op::Add(json!(1)), "other"), false, Err(ErrorKind::BadRequest)),
            (change(Op::Replace(json!("active")), "status"), true, Err(ErrorKind::Forbidden)),
            (change(Op::Replace(json!("x")), "id"), true, Err(ErrorKind::BadRequest)),
            (change(Op::Replace(json!("p")), "owner"), false, Err(ErrorKind::Forbidden)),
            (change(Op::Replace(json!("p")), "owner"), true, Ok(())),
            (change(Op::Replace(json!("raw")), "disk_format"), false, Ok(())),
            (change(Op::Replace(json!("floppy")), "disk_format"), false, Err(ErrorKind::BadRequest)),
        ];
        for (change, admin, expected) in table {
            let shown = format!("{change:?}");
            assert_eq!(apply(&mut image(), change, admin).map_err(|e| e.kind), expected, "{shown}");
        }
        let mut active = Image { status: Status::Active, ..image() };
        let format = change(Op::Replace(json!("raw")), "disk_format");
        assert_eq!(apply(&mut active, format, true).map_err(|e| e.kind), Err(ErrorKind::Forbidden));
    }

    #[test]
    fn amazon_formats_go_together() {
        let table = [
            (Some("raw"), Some("bare"), Ok((Some("raw"), Some("bare")))),
            (None, None, Ok((None, None))),
            (Some("aki"), None, Ok((Some("aki"), Some("aki")))),
            (None, Some("ari"), Ok((Some("ari"), Some("ari")))),
            (Some("ami"), Some("ami"), Ok((Some("ami"), Some("ami")))),
            (Some("ami"), Some("bare"), Err(())),
            (Some("raw"), Some("aki"), Err(())),
        ];
        for (disk, container, expected) in table {
            let mut image = image();
            image.disk_format = disk.map(str::to_owned);
            image.container_format = container.map(str::to_owned);
            let paired = pair_formats(&mut image).map_err(|_| ());
            let formats = paired.map(|()| (image.disk_format.as_deref(), image.container_format.as_deref()));
            assert_eq!(formats, expected, "{disk:?} {container:?}");
        }
    }
}
