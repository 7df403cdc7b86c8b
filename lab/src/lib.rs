//! Real meshes on one machine, for the end-to-end tests and `make demo`; not shipped.
//!
//! A [`Plan`] (LANs, hosts, WireGuard tunnels) comes up as a [`Mesh`] of network namespaces with
//! real `wireguard-go` tunnels; a [`Host`] runs real binaries ([`Launch`] -> [`Proc`]), answers
//! HTTP asked from inside, is cut off and healed. A [`Kernel`] is a Debian kernel under qemu, for
//! what only the kernel's own modules show. All of it vanishes with the value, and with the test
//! process however that ends.

mod bins;
mod cidr;
mod command;
mod dns;
mod error;
mod holder;
mod host;
mod http;
mod kernel;
mod mesh;
mod need;
mod plan;
mod process;
mod wait;
mod wireguard;

pub mod bench;
pub mod demo;

pub use bins::bin;
pub use cidr::Cidr;
pub use command::Output;
pub use dns::Dns;
pub use error::{Error, Result};
pub use host::{Attachment, Door, Host};
pub use http::Answer;
pub use kernel::{HOSTS, Kernel, Step, Transcript};
pub use mesh::Mesh;
pub use need::{KERNEL, MESH, Need, require};
pub use plan::Plan;
pub use process::{Launch, Proc};
pub use wait::{until, wait_for};
pub use wireguard::{Device, End, KeyPair, Tunnel};
