//! What keeps the process itself honest: [`starts`] finds out whether it dies again and again, and leaves out what it dies of;
//! [`notify`] tells the service manager that it runs and gets somewhere. [The contract](../../../docs/healing.md).

pub mod crumb;
pub mod notify;
pub mod starts;
