//! The commands against a gateway that is not there or does not answer, and their exit codes.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

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
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
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

/// Takes connections, answers the first call this much later, and never another one.
fn answers_once(later: Duration, body: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut first, _) = listener.accept().unwrap();
        let mut asked = [0; 4096];
        assert!(first.read(&mut asked).unwrap() > 0);
        // Nobody says anything meanwhile.
        let (_says_nothing, hears) = std::sync::mpsc::channel::<()>();
        let _ = hears.recv_timeout(later);
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        // Whoever asked may have gone.
        let _ = first.write_all(format!("{head}{body}").as_bytes());
        let rest: Vec<_> = listener.incoming().collect();
        drop((first, rest));
    });
    address
}

#[test]
fn a_command_ends_within_its_timeout_however_many_calls_it_makes() {
    let status =
        r#"{"tenant":"t","gateway":"g","version":"v","gateways":[],"clients":0,"missing":[]}"#;
    let (within, later) = (Duration::from_secs(1), Duration::from_millis(700));
    let timed = |line: &str, answered: bool| {
        let body = if line.contains(" kick") {
            r#"{"clients":{},"missing":[]}"#
        } else {
            status
        };
        // One that is asked once gets no answer at all.
        let address = answers_once(if answered { later } else { within * 4 }, body);
        let line =
            format!("{line} --token 0123456789abcdef --api http://{address} --timeout-ms 1000");
        let start = Instant::now();
        let code = run(&command(&line));
        let took = start.elapsed();
        assert!(took < within + within / 2, "{line}: {took:?}");
        (code, took)
    };
    // Its second call is the one that is cut, and it says what is not known.
    let (code, took) = timed("tidegate status", true);
    assert!(code == PARTIAL && took > later, "{code} after {took:?}");
    let (code, took) = timed("tidegate history", true);
    assert!(code == FAILED && took > later, "{code} after {took:?}");
    let (code, took) = timed("tidegate kick --now --uid u", true);
    assert!(code == FAILED && took > later, "{code} after {took:?}");
    for line in ["tidegate request pay 7", "tidegate send --everyone hello"] {
        assert_eq!(timed(line, false).0, FAILED, "{line}");
    }
}
