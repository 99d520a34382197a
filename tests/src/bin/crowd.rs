//! A crowd: thousands of TCP clients in a process of its own, because a process has only so many
//! file descriptors. `crowd ADDRESS FIRST END SAY` connects the clients with these numbers, and each
//! says this, with `{n/2}` replaced by half its number. It then obeys its standard input: `churn N`
//! replaces N clients, one after the other, by new connections with the same numbers. Each order is
//! answered with one line. The end of the input is its end.

use std::io::{BufRead, Write};
use std::net::{SocketAddrV4, TcpStream};

use anyhow::{Context, Result, bail};
use rand::RngExt;

struct Crowd {
    server: SocketAddrV4,
    say: String,
    first: usize,
    clients: Vec<TcpStream>,
}

impl Crowd {
    fn connect(&self, place: usize) -> Result<TcpStream> {
        let number = self.first + place;
        let mut client = TcpStream::connect(self.server)
            .with_context(|| format!("client {number} of {}", self.server))?;
        let half = (number / 2).to_string();
        client.write_all(self.say.replace("{n/2}", &half).as_bytes())?;
        Ok(client)
    }

    fn churn(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            let place = rand::rng().random_range(0..self.clients.len());
            let comes = self.connect(place)?;
            if let Some(leaves) = self.clients.get_mut(place) {
                *leaves = comes;
            }
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [server, first, end, say] = args.as_slice() else {
        bail!("usage: crowd ADDRESS FIRST END SAY");
    };
    let mut crowd = Crowd {
        server: server.parse()?,
        say: say.clone(),
        first: first.parse()?,
        clients: Vec::new(),
    };
    for place in 0..end.parse::<usize>()? - crowd.first {
        crowd.clients.push(crowd.connect(place)?);
    }
    let mut output = std::io::stdout().lock();
    writeln!(output, "open")?;
    output.flush()?;
    for order in std::io::stdin().lock().lines() {
        let order = order?;
        match order.split_once(' ') {
            Some(("churn", count)) => crowd.churn(count.parse()?)?,
            _ => bail!("not an order: {order:?}"),
        }
        writeln!(output, "done {order}")?;
        output.flush()?;
    }
    Ok(())
}
