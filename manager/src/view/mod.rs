//! What the API and the page show, apart from rows and wire types.

pub mod agent;
pub mod alarms;
pub mod brief;
pub mod health;
pub mod map;
pub mod rates;
