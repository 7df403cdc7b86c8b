//! A tiny server behind the gate, for benchmarks and for trying it out by hand.
//!
//! `echo [ADDRESS]` (default 127.0.0.1:5080): POST /echo gives the body back, GET /ok says ok.

use gate::{Answer, Gate, Limits, Reply, Request, Stop, block_signals, listen, raise_nofile};
use std::error::Error;
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    block_signals()?;
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:5080").parse()?;
    let limits = Limits::default().capped_for(raise_nofile()?);
    let stop = Stop::on_signals()?;
    let listener = listen(address)?;
    eprintln!("listening on {}", listener.local_addr()?);
    let stats = Gate::new(limits, handle).run(vec![listener], &stop, Duration::from_secs(5))?;
    eprintln!("{stats:?}");
    Ok(())
}

fn handle(request: Request, reply: Reply) {
    reply.send(match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/echo") => Answer::new(200, "application/octet-stream", request.body),
        ("GET" | "HEAD", "/ok") => Answer::text(200, "ok\n"),
        _ => Answer::text(404, "not found\n"),
    });
}
