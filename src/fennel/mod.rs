//! (being built)

/// Evaluates a configuration file to plain data.
pub fn eval_data(
    _text: &str,
    file: &str,
    _language: crate::driver::protocol::Language,
) -> Result<serde_json::Value, crate::pipeline::Diagnostic> {
    Err(crate::pipeline::Diagnostic { message: format!("{file} cannot be evaluated yet"), place: None, source_line: None, hint: None })
}
