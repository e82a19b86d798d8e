//! Errors as each service writes them. Nothing else turns a [`model::Error`] into HTTP.

use http::{HeaderValue, StatusCode, header};
use model::{Error, ErrorKind};
use serde_json::{Value, json};

use crate::{FaultStyle, Reply};

/// The status of an error in a service's style: they disagree only about quotas.
pub fn status(error: &Error, style: FaultStyle) -> StatusCode {
    match error.kind {
        ErrorKind::BadRequest => StatusCode::BAD_REQUEST,
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorKind::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Gone => StatusCode::GONE,
        ErrorKind::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        ErrorKind::OverQuota => match style {
            FaultStyle::Neutron => StatusCode::CONFLICT,
            FaultStyle::Glance => StatusCode::PAYLOAD_TOO_LARGE,
            FaultStyle::Nova | FaultStyle::Keystone | FaultStyle::Placement => StatusCode::FORBIDDEN,
        },
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorKind::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The whole response. The caller has logged the error; a 500 shows nothing of it but the request id.
pub fn render(error: &Error, style: FaultStyle, request_id: &str, auth_url: &str) -> Reply {
    let status = status(error, style);
    let message = if error.kind == ErrorKind::Internal {
        format!("An unexpected error occurred; the operator finds its cause in the log under {request_id}.")
    } else {
        error.message.clone()
    };
    let title = status.canonical_reason().unwrap_or("Error");
    let retry = error.retry_after.map(|after| after.as_secs().max(1));
    let body = match style {
        FaultStyle::Nova => nova(status, &message, retry),
        FaultStyle::Neutron => json!({"NeutronError": {"type": error.code, "message": message, "detail": ""}}),
        FaultStyle::Keystone => json!({"error": {"code": status.as_u16(), "title": title, "message": message}}),
        FaultStyle::Glance => {
            json!({"code": format!("{} {title}", status.as_u16()), "title": title, "message": message})
        }
        FaultStyle::Placement => json!({"errors": [{
            "status": status.as_u16(), "title": title, "detail": message, "code": error.code, "request_id": request_id
        }]}),
    };
    let mut reply = Reply::bytes(status, "application/json", body.to_string());
    if let Some(seconds) = retry {
        reply.headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::UNAUTHORIZED {
        return reply.with("www-authenticate", format!("Keystone uri=\"{auth_url}\""));
    }
    reply
}

/// Nova and Cinder name the object after the status.
fn nova(status: StatusCode, message: &str, retry_after: Option<u64>) -> Value {
    let key = match status.as_u16() {
        400 => "badRequest",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "itemNotFound",
        405 => "badMethod",
        409 => "conflictingRequest",
        413 | 429 => "overLimit",
        415 => "badMediaType",
        501 => "notImplemented",
        503 => "serviceUnavailable",
        _ => "computeFault",
    };
    let mut fault = json!({"code": status.as_u16(), "message": message});
    if let (413 | 429, Some(seconds)) = (status.as_u16(), retry_after) {
        fault["retryAfter"] = json!(seconds.to_string());
    }
    json!({ key: fault })
}
