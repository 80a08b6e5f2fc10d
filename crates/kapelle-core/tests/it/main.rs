//! What core promises, tried from outside.

mod driver;
mod script;
mod sim;
