//! What configurations are read as, and what is refused.

mod files;
mod layers;
mod mistakes;
mod printed;

use super::*;

const SECRET: &str = "0123456789abcdef";

fn overrides(purpose: Purpose, flags: &[Override]) -> Overrides {
    Overrides {
        purpose,
        flags: flags.to_vec(),
    }
}

fn load(
    text: &str,
    env: &[(&str, &str)],
    purpose: Purpose,
    flags: &[Override],
) -> Result<Config, String> {
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::of_text("etc/t.toml", text, env, &overrides(purpose, flags), vec![])
        .map_err(|errors| errors.to_string())
}

fn refused(text: &str) -> String {
    load(text, &[], Purpose::Check, &[]).expect_err(text)
}
