//! To come.
/// To come.
pub async fn watch() {}
