//! The one error type of the control plane.
//!
//! An [`Error`] has two audiences. `message` is for the caller: it says what is wrong and what to change. `context` is
//! for the operator: it goes to the log and never into a response. `code` is a stable word (`PortNotFound`) that
//! services show where their fault shape has a place for it. Only `web::fault` turns errors into HTTP.

use std::{fmt, time::Duration};

/// A result with the control plane's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as a client can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// 400: the request is malformed or breaks a rule of the resource.
    BadRequest,
    /// 401: no token, or one that is not valid (any more).
    Unauthenticated,
    /// 403: the caller may know of the thing but not do this.
    Forbidden,
    /// 404: no such thing, or none that the caller may know of.
    NotFound,
    /// 405: the path exists, the method does not.
    MethodNotAllowed,
    /// 406: no version or representation that the client accepts.
    NotAcceptable,
    /// 409: the resource's state does not allow it now, or someone else was faster.
    Conflict,
    /// 410: it existed and is gone for good.
    Gone,
    /// 412: a precondition (`If-Match`) did not hold.
    PreconditionFailed,
    /// 403 or 413, as the service has it: a quota would be exceeded.
    OverQuota,
    /// 413: the body is larger than the limit.
    TooLarge,
    /// 415: a media type that is not understood.
    UnsupportedMedia,
    /// 422: understood, but it contradicts what was said before.
    Unprocessable,
    /// 429: too many requests.
    RateLimited,
    /// 501: this installation or driver can't do it.
    Unsupported,
    /// 503: it can't be done now; trying later may succeed.
    Unavailable,
    /// 500: a defect, or an engine below failed in a way nobody foresaw.
    Internal,
}

/// An error with its two audiences. See the module's text.
pub struct Error {
    /// What the client can do about it.
    pub kind: ErrorKind,
    /// A stable word, as OpenStack's exception class is called where one exists: `PortNotFound`.
    pub code: &'static str,
    /// For the caller.
    pub message: String,
    /// For the log only.
    pub context: Option<Box<dyn std::error::Error + Send + Sync>>,
    /// When trying again makes sense.
    pub retry_after: Option<Duration>,
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $kind:ident;)*) => {
        impl Error {
            $($(#[$doc])*
            pub fn $name(code: &'static str, message: impl Into<String>) -> Self {
                Self::new(ErrorKind::$kind, code, message)
            })*
        }
    };
}

constructors! {
    /// See [`ErrorKind::BadRequest`].
    bad_request => BadRequest;
    /// See [`ErrorKind::Unauthenticated`].
    unauthenticated => Unauthenticated;
    /// See [`ErrorKind::Forbidden`].
    forbidden => Forbidden;
    /// See [`ErrorKind::NotFound`].
    not_found => NotFound;
    /// See [`ErrorKind::Conflict`].
    conflict => Conflict;
    /// See [`ErrorKind::OverQuota`].
    over_quota => OverQuota;
    /// See [`ErrorKind::TooLarge`].
    too_large => TooLarge;
    /// See [`ErrorKind::Unsupported`].
    unsupported => Unsupported;
    /// See [`ErrorKind::Unavailable`].
    unavailable => Unavailable;
}

impl Error {
    /// An error of any kind.
    pub fn new(kind: ErrorKind, code: &'static str, message: impl Into<String>) -> Self {
        Self { kind, code, message: message.into(), context: None, retry_after: None }
    }

    /// A defect or an engine's failure: `what` is what Nacre was doing, `why` the cause. Both go to the log; the
    /// caller gets a fixed sentence with the request id.
    pub fn internal(what: impl Into<String>, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Internal, "InternalError", what).because(why)
    }

    /// Adds the cause for the log.
    pub fn because(mut self, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.context = Some(why.into());
        self
    }

    /// Says when trying again makes sense.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The cause and its causes, for the log.
    pub fn chain(&self) -> String {
        let mut text = String::new();
        let mut next: Option<&dyn std::error::Error> = self.context.as_deref().map(|c| c as _);
        while let Some(error) = next {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&error.to_string());
            next = error.source();
        }
        text
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}: {}", self.kind, self.code, self.message)?;
        if self.context.is_some() {
            write!(f, " ({})", self.chain())?;
        }
        Ok(())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.context.as_deref().map(|c| c as _)
    }
}
