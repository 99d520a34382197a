//! The commands against a gateway that is not there, and their exit codes.

use clap::Parser;

use super::*;
use crate::cli::{Arguments, Command};

fn command(line: &str) -> ClientCommand {
    let arguments = Arguments::try_parse_from(line.split(' ')).expect(line);
    let Command::Client(command) = arguments.command else {
        panic!("{line}")
    };
    command
}

#[test]
fn wrong_arguments_and_absent_gateways_have_codes_of_their_own() {
    // A port that was free a moment ago and that nobody is told of.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let rest = format!("--api http://{address} --timeout-ms 200");
    for (line, code) in [
        (
            format!("tidegate status --token 0123456789abcdef {rest}"),
            FAILED,
        ),
        (
            format!("tidegate status --token-file /nowhere/token {rest}"),
            WRONG,
        ),
        (
            format!("tidegate feed --token 0123456789abcdef --kind x {rest}"),
            WRONG,
        ),
        (
            format!("tidegate clients --token 0123456789abcdef --fields ip {rest}"),
            WRONG,
        ),
        (
            format!("tidegate session set --token 0123456789abcdef c [] {rest}"),
            WRONG,
        ),
        (
            "tidegate status --token 0123456789abcdef --api ftp://x".to_owned(),
            WRONG,
        ),
    ] {
        assert_eq!(run(&command(&line)), code, "{line}");
    }
}

#[test]
fn a_send_needs_somebody_and_a_kick_too() {
    for line in [
        "tidegate send hello",
        "tidegate kick",
        "tidegate kick --now --farewell bye --uid u",
        "tidegate clients --all --limit 3",
        "tidegate uids --estimate",
        "tidegate clients --count --limit 3",
        "tidegate clients --count --fields uid",
        "tidegate uids --count --all",
        "tidegate uids alice --limit 3",
        "tidegate groups lobby --all",
    ] {
        assert!(
            Arguments::try_parse_from(line.split(' ')).is_err(),
            "{line}"
        );
    }
    let ClientCommand::Send(send) = command("tidegate send --uid a --uid b --everyone hello")
    else {
        panic!("send")
    };
    assert_eq!((send.which.uid.len(), send.everyone), (2, true));
}
