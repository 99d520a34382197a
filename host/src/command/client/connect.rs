//! Which gateway is asked, and with which token: what the command line says wins over what the
//! environment says, and a variable that is empty says nothing.

use std::path::{Path, PathBuf};

use tidegate_client::{Client, Error};

use crate::cli::client::Connect;

/// Where gateways of the examples serve the Client API.
const API: &str = "http://127.0.0.1:7280";

/// Where a token is taken from.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    /// This is it, and who says so.
    Given(String, &'static str),
    /// It is in this file.
    In(PathBuf),
}

/// The client of a command. `environment` gives the value of a variable.
pub(super) fn client(
    connect: &Connect,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Client, Error> {
    let (token, place) = match token(connect, &environment)? {
        Token::Given(token, place) => (token.trim().to_owned(), place.to_owned()),
        Token::In(file) => (in_file(&file)?, format!("`{}`", file.display())),
    };
    if token.is_empty() {
        let message = format!("the token in {place} is empty; [[api-token]] has it");
        return Err(Error::Setting(message));
    }
    let api = connect.api.clone();
    let api = api.or_else(|| set(&environment, "TIDEGATE_API"));
    Client::builder(api.unwrap_or_else(|| API.to_owned()))
        .token(token)
        .patient(false)
        // A person sees what failed. Nothing else has to depend on one more gateway.
        .keys(false)
        .deadline(connect.timeout())
        .build()
}

fn token(connect: &Connect, environment: &impl Fn(&str) -> Option<String>) -> Result<Token, Error> {
    if let Some(token) = &connect.token {
        return Ok(Token::Given(token.clone(), "--token"));
    }
    if let Some(file) = &connect.token_file {
        return Ok(Token::In(file.clone()));
    }
    if let Some(token) = set(environment, "TIDEGATE_TOKEN") {
        return Ok(Token::Given(token, "TIDEGATE_TOKEN"));
    }
    match set(environment, "TIDEGATE_TOKEN_FILE") {
        Some(file) => Ok(Token::In(file.into())),
        None => Err(Error::Setting(
            "no token: set TIDEGATE_TOKEN or give --token-file; the gateway knows it from \
             [[api-token]]"
                .to_owned(),
        )),
    }
}

fn set(environment: &impl Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    environment(name).filter(|value| !value.trim().is_empty())
}

fn in_file(file: &Path) -> Result<String, Error> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Error::Setting(format!("the token file `{}`: {error}", file.display())))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Arguments, Command};

    fn connect(line: &str) -> Connect {
        let line = format!("tidegate status {line}");
        let arguments = Arguments::try_parse_from(line.split_whitespace()).expect(&line);
        let Command::Client(command) = arguments.command else {
            panic!("{line}")
        };
        command.connect().clone()
    }

    fn environment(given: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        |wanted| {
            let mut given = given.iter();
            let found = given.find(|(name, _)| *name == wanted)?;
            Some(found.1.to_owned())
        }
    }

    #[test]
    fn the_line_wins_over_the_environment_and_an_empty_variable_is_none() {
        let given = |token: &str, place| Token::Given(token.to_owned(), place);
        let file = |name: &str| Token::In(name.into());
        let both = [("TIDEGATE_TOKEN", "env"), ("TIDEGATE_TOKEN_FILE", "env.f")];
        for (line, variables, wanted) in [
            ("--token-file f", &both[..], file("f")),
            ("--token t", &both[..], given("t", "--token")),
            ("", &both[..], given("env", "TIDEGATE_TOKEN")),
            ("", &both[1..], file("env.f")),
            (
                "",
                &[("TIDEGATE_TOKEN", ""), ("TIDEGATE_TOKEN_FILE", "env.f")],
                file("env.f"),
            ),
        ] {
            let found = token(&connect(line), &environment(variables)).expect(line);
            assert_eq!(found, wanted, "{line} {variables:?}");
        }
        let none = token(&connect(""), &environment(&[("TIDEGATE_TOKEN", " ")]));
        assert!(none.is_err());
        let two = "tidegate status --token t --token-file f".split(' ');
        assert!(Arguments::try_parse_from(two).is_err(), "both on the line");
    }

    #[test]
    fn the_gateway_is_that_of_the_line_of_the_environment_or_of_the_examples() {
        let base = |line: &str, variables: &[(&str, &str)]| {
            let line = format!("--token 0123456789abcdef {line}");
            let client = client(&connect(&line), environment(variables)).expect(&line);
            client.base().to_owned()
        };
        let set = [("TIDEGATE_API", "http://env:1")];
        assert_eq!(base("--api http://line:1", &set), "http://line:1");
        assert_eq!(base("", &set), "http://env:1");
        assert_eq!(base("", &[("TIDEGATE_API", "")]), API);
    }
}
