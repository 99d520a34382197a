//! The tokens of the Client API: whether they are right, and what they are. They are never part of
//! a message.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::path::Path;

use tidegate_api::TOKEN_BYTES_MIN;
use tidegate_wire::Name;

use super::error::{ConfigError, ConfigErrors, Place};
use super::types::Secret;
use super::{ApiToken, Config, Purpose};

/// A longer file holds something else.
const FILE_BYTES_MAX: u64 = 4_096;

const MAKE: &str = "for example what `openssl rand -hex 32` prints";

/// Of a token and a token file that were given in different places the later place wins, as for any
/// key: the command line over the environment, that over the file.
pub(super) fn settle(config: &mut Config) {
    let rank = |place: Place| match place {
        Place::Nowhere => 0,
        Place::File { .. } => 1,
        Place::Variable(_) => 2,
        Place::Flag(_) => 3,
    };
    for (at, it) in config.api_tokens.iter_mut().enumerate() {
        let rank_of = |key| rank(config.places.of(&format!("api-token.{at}.{key}")));
        match rank_of("token").cmp(&rank_of("token-file")) {
            Ordering::Less => it.token = None,
            Ordering::Greater => it.token_file = None,
            Ordering::Equal => {}
        }
    }
}

/// Mistakes that show without a look into files.
pub(super) fn errors(config: &Config) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let mut inline = Vec::new();
    for (at, it) in config.api_tokens.iter().enumerate() {
        let (table, token) = (format!("api-token.{at}"), format!("api-token.{at}.token"));
        match (&it.token, &it.token_file) {
            (Some(text), None) => {
                inline.push((config.places.of(&token), text.clone(), it.tenant.clone()));
            }
            (None, Some(_)) => {}
            (None, None) => {
                let message = "an [[api-token]] needs its `token` or its `token-file`";
                errors.push(ConfigError::new(&config.places.of(&table), message));
            }
            (Some(_), Some(_)) => {
                let message = "an [[api-token]] has either a `token` or a `token-file`, not both";
                errors.push(ConfigError::new(&config.places.of(&token), message));
            }
        }
    }
    errors.extend(wrong(&inline));
    errors
}

/// What is hardly meant.
pub(super) fn warning(config: &Config) -> Option<String> {
    let listens = config.api.listen.is_some();
    match (config.purpose, listens, config.api_tokens.is_empty()) {
        (Purpose::Serve | Purpose::Gateway | Purpose::Check, true, true) => Some(format!(
            "the Client API is served but there is no [[api-token]]: nobody can call it; a token \
             is {MAKE}"
        )),
        (Purpose::Serve | Purpose::Gateway | Purpose::Check, false, false) => Some(
            "there is an [[api-token]] but `api.listen` is not set: the Client API is not served"
                .to_owned(),
        ),
        _ => None,
    }
}

/// The tokens, each with its table, also those in files.
///
/// # Errors
/// Files that cannot be read, and tokens that are too short or there twice.
pub fn read(config: &Config) -> Result<Vec<(Secret, &ApiToken)>, ConfigErrors> {
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    let mut tables = Vec::new();
    for (at, it) in config.api_tokens.iter().enumerate() {
        let place = |key| config.places.of(&format!("api-token.{at}.{key}"));
        tables.push(it);
        if let Some(token) = &it.token {
            found.push((place("token"), token.clone(), it.tenant.clone()));
        } else if let Some(file) = &it.token_file {
            let place = place("token-file");
            match of_file(file) {
                Ok(token) => found.push((place, token, it.tenant.clone())),
                Err(message) => errors.push(ConfigError::new(&place, message)),
            }
        }
    }
    errors.extend(wrong(&found));
    match ConfigErrors::of(errors) {
        // Each table had its token, or there was an error.
        None => Ok(found
            .into_iter()
            .zip(tables)
            .map(|((_, token, _), table)| (token, table))
            .collect()),
        Some(errors) => Err(errors),
    }
}

fn of_file(file: &Path) -> Result<Secret, String> {
    let failed = |error: std::io::Error| {
        format!(
            "the token file `{}` cannot be read: {error}",
            file.display()
        )
    };
    let length = std::fs::metadata(file).map_err(failed)?.len();
    if length > FILE_BYTES_MAX {
        return Err(format!(
            "the token file `{}` has {length} bytes: it holds one token and nothing else",
            file.display()
        ));
    }
    let text = std::fs::read_to_string(file).map_err(failed)?;
    Ok(Secret::new(text.trim().to_owned()))
}

/// Tokens that can be guessed, cannot stand in a header, or are there twice.
fn wrong(tokens: &[(Place, Secret, Name)]) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let mut seen: HashMap<&[u8], &Name> = HashMap::new();
    for (place, token, tenant) in tokens {
        let bytes = token.expose();
        if bytes.len() < TOKEN_BYTES_MIN {
            let message = format!(
                "the token for the tenant `{tenant}` has {} characters and can be guessed, \
                 {TOKEN_BYTES_MIN} or more are right, {MAKE}",
                bytes.len()
            );
            errors.push(ConfigError::new(place, message));
        } else if !bytes.iter().all(u8::is_ascii_graphic) {
            let message = format!(
                "the token for the tenant `{tenant}` cannot stand in a header: printable ASCII \
                 without spaces is right, {MAKE}"
            );
            errors.push(ConfigError::new(place, message));
        }
        if let Some(other) = seen.insert(bytes, tenant) {
            let message = format!(
                "the tenants `{other}` and `{tenant}` have the same token: each [[api-token]] \
                 needs one of its own"
            );
            errors.push(ConfigError::new(place, message));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::super::{Override, Overrides};
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let overrides = Overrides {
            purpose: Purpose::Check,
            flags: Vec::new(),
        };
        Config::of_text("f", text, std::iter::empty(), &overrides, Vec::new())
            .map_err(|errors| errors.to_string())
    }

    #[test]
    fn tokens_that_are_short_doubled_or_absent_are_refused_and_never_shown() {
        let token = "0123456789abcdef";
        let one = format!("[[api-token]]\ntoken = \"{token}\"\n");
        assert!(load(&one).is_ok());
        for (text, says) in [
            (
                "[[api-token]]\ntoken = \"hunter2\"".to_owned(),
                "has 7 characters",
            ),
            (
                "[[api-token]]\ntoken = \"with a space in it\"".to_owned(),
                "header",
            ),
            (
                "[[api-token]]\ntenant = \"a\"".to_owned(),
                "needs its `token`",
            ),
            (format!("{one}token-file = \"x\""), "not both"),
            (
                format!("{one}[[api-token]]\ntenant = \"b\"\ntoken = \"{token}\""),
                "the same",
            ),
        ] {
            let error = load(&text).expect_err(&text);
            assert!(error.contains(says), "{error}");
            assert!(
                !error.contains(token) && !error.contains("hunter2"),
                "{error}"
            );
        }
        let config = load(&one).unwrap();
        assert!(!format!("{config:?}").contains(token));
        assert!(!super::super::effective_file(&config).contains(token));
    }

    #[test]
    fn a_token_file_on_the_line_wins_over_a_token_of_the_environment_or_the_file() {
        let token = "0123456789abcdef".to_owned();
        let load = |text: &str, variables: &[(&str, &str)], set: &[&str]| {
            let flags = set.iter().map(|set| Override::Set((*set).to_owned()));
            let overrides = Overrides {
                purpose: Purpose::Check,
                flags: flags.collect(),
            };
            let variables = variables.iter();
            let variables = variables.map(|(name, value)| ((*name).into(), (*value).into()));
            Config::of_text("f", text, variables, &overrides, Vec::new()).map(|config| {
                let it = &config.api_tokens[0];
                let file = it.token_file.as_ref();
                (
                    it.token.is_some(),
                    file.map(|file| file.display().to_string()),
                )
            })
        };
        let variable = [("TIDEGATE_API_TOKEN__0__TOKEN", token.as_str())];
        let line = ["api-token.0.token-file=line"];
        let of_line = Ok((false, Some("line".to_owned())));
        assert_eq!(load("", &variable, &line), of_line);
        let inline = format!("[[api-token]]\ntoken = \"{token}\"\n");
        assert_eq!(load(&inline, &[], &line), of_line);
        let file = "[[api-token]]\ntoken-file = \"file\"\n";
        assert_eq!(load(file, &variable, &[]), Ok((true, None)));
    }

    #[test]
    fn tokens_come_from_files_and_are_checked_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let text = format!("[[api-token]]\ntenant = \"t\"\ntoken-file = {:?}", file);
        let config = load(&text).unwrap();
        let error = |config: &Config| read(config).expect_err("not right").to_string();
        assert!(error(&config).contains("cannot be read"));
        std::fs::write(&file, "short\n").unwrap();
        assert!(error(&config).contains("has 5 characters"));
        std::fs::write(&file, "0123456789abcdef\n").unwrap();
        let tokens = read(&config).unwrap();
        assert_eq!(tokens[0].0.expose(), b"0123456789abcdef");
        assert_eq!(&*tokens[0].1.tenant, "t");
        std::fs::write(&file, vec![b'x'; 5000]).unwrap();
        assert!(error(&config).contains("one token and nothing else"));
    }
}
