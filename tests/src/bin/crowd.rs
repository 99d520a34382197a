//! A crowd: thousands of TCP clients in a process of its own, because a process has only so many
//! file descriptors. `crowd ADDRESS FIRST END SAY` connects the clients with these numbers, and each
//! says this, with `{n/2}` replaced by half its number. It then obeys its standard input: `churn N`
//! replaces N clients, one after the other, by new connections with the same numbers. Each order is
//! answered with one line. The end of the input is its end.

use std::io::{BufRead, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};

use anyhow::{Context, Result, bail};
use rand::RngExt;
use tokio::net::TcpSocket;

/// How many clients have one source address. The kernel looks for a free port among all of an
/// address: tens of thousands of one cost it a minute.
const CLIENTS_PER_SOURCE: usize = 1_000;

struct Crowd {
    server: SocketAddrV4,
    say: String,
    first: usize,
    clients: Vec<TcpStream>,
}

impl Crowd {
    async fn connect(&self, place: usize) -> Result<TcpStream> {
        let number = self.first + place;
        let mut client = connect(self.server, number)
            .await
            .with_context(|| format!("client {number} of {}", self.server))?;
        let half = (number / 2).to_string();
        client.write_all(self.say.replace("{n/2}", &half).as_bytes())?;
        Ok(client)
    }

    async fn churn(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            let place = rand::rng().random_range(0..self.clients.len());
            let comes = self.connect(place).await?;
            if let Some(leaves) = self.clients.get_mut(place) {
                *leaves = comes;
            }
        }
        Ok(())
    }
}

/// Connects from the source address of the client with this number.
async fn connect(server: SocketAddrV4, number: usize) -> Result<TcpStream> {
    let [_, _, high, low] = u32::try_from(number / CLIENTS_PER_SOURCE)?.to_be_bytes();
    let source = SocketAddrV4::new(Ipv4Addr::new(127, 1 + high, low, 1), 0);
    let socket = TcpSocket::new_v4()?;
    socket.bind(source.into())?;
    let client = socket.connect(server.into()).await?.into_std()?;
    client.set_nonblocking(false)?;
    Ok(client)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
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
        crowd.clients.push(crowd.connect(place).await?);
    }
    let mut output = std::io::stdout().lock();
    writeln!(output, "open")?;
    output.flush()?;
    for order in std::io::stdin().lock().lines() {
        let order = order?;
        match order.split_once(' ') {
            Some(("churn", count)) => crowd.churn(count.parse()?).await?,
            _ => bail!("not an order: {order:?}"),
        }
        writeln!(output, "done {order}")?;
        output.flush()?;
    }
    Ok(())
}
