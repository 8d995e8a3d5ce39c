//! Why a line of an `authorized_keys` file is rejected.

/// sshd reads lines of at least 8 KiB; a key of 16384 bits needs less than 3 KiB.
pub(super) const MAX_LINE_BYTES: usize = 8000;

/// Why a line of an `authorized_keys` file is rejected. The texts continue a sentence that names the
/// line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages describe the variants")]
pub enum KeyLineError {
    #[error("it contains a control character")]
    ControlCharacter,
    #[error(
        "it is part of a private key or certificate; use the line of the .pub file, and keep the private key secret"
    )]
    PrivateKey,
    #[error("it is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    #[error("a quote in its options is not closed")]
    UnclosedQuote,
    #[error("the value of its option `{0}` has to stand in double quotes: {0}=\"…\"")]
    UnquotedValue(&'static str),
    #[error("its option `{0}` stands there twice, and sshd accepts it once")]
    RepeatedOption(&'static str),
    #[error(
        "the value of its option `expiry-time` is not a time as sshd reads it; write the day, or the day, hour and minute, \
         with a Z for UTC: expiry-time=\"20271231\" or expiry-time=\"202712312359Z\""
    )]
    ExpiryTime,
    #[error(
        "its option `from` contains `{0}`, which is neither an address, a network nor a pattern that sshd accepts; \
         of a network, the bits after the prefix have to be zero"
    )]
    FromPattern(String),
    #[error(
        "its option `command` has no effect here, so the key could do everything that quire offers; remove the option, \
         or add the key with `key add --read` or `key add --repo`, which limit it"
    )]
    CommandOption,
    #[error(
        "its option `{0}` has no effect here, because quire offers no terminal, forwarding or environment; remove the option"
    )]
    OptionWithoutEffect(String),
    #[error(
        "it starts neither with a key type, such as ssh-ed25519, nor with options that sshd knows"
    )]
    UnknownOption,
    #[error("it has options but no key")]
    NoKey,
    #[error("DSA keys are no longer accepted; generate a key with `ssh-keygen -t ed25519`")]
    DsaKey,
    #[error("sshd does not know its key type; use a key such as ssh-ed25519")]
    UnknownKeyType,
    #[error("the key is missing after its type")]
    MissingKey,
    #[error("the key is not valid base64; it may have been cut off or split over several lines")]
    InvalidBase64,
    #[error("the key is cut short or damaged, or not of the type that the line says")]
    DamagedKey,
}
