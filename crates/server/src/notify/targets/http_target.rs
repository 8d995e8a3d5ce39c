//! Targets that are told by an HTTP request.

use crate::notify::message::Message;
use crate::notify::outgoing_request::OutgoingRequest;
use quire_types::secret::Redactor;

pub(in crate::notify) trait HttpTarget {
    /// What is wrong with its URL or with a secret. Blocks.
    fn check(&self) -> Result<(), String>;

    /// Makes the request of a message. No secret of `redactor` is in its body. Blocks.
    fn request(&self, message: &Message, redactor: &Redactor) -> Result<OutgoingRequest, String>;
}
