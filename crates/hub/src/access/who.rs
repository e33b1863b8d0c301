//! Who asks: a person or a program with a role, a node, or nobody. The guard finds it out once; handlers take it.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wire::id::NodeId;

/// What an operator may do. Operator and approver are beside each other, not one above the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads everything, changes nothing.
    Viewer,
    /// Rolls out, groups, publishes.
    Operator,
    /// Approves what others made.
    Approver,
    /// All of it, and who may do what.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 4] = [Role::Viewer, Role::Operator, Role::Approver, Role::Admin];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Approver => "approver",
            Role::Admin => "admin",
        }
    }

    /// The inverse of [`Role::as_str`].
    pub fn parse(word: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str() == word)
    }

    /// Whether whoever has this role may do all that `other` may.
    pub fn covers(self, other: Role) -> bool {
        self == other || self == Role::Admin || other == Role::Viewer
    }

    /// What both may: the role of a token whose operator was given another role since.
    pub fn meet(self, other: Role) -> Role {
        match (self.covers(other), other.covers(self)) {
            (true, _) => other,
            (_, true) => self,
            _ => Role::Viewer,
        }
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// Somebody who showed nothing, or nothing that counts.
    Nobody,
    /// A person or a program that showed a token or has a session.
    Operator {
        /// The name it goes by in the audit log.
        name: Arc<str>,
        /// What it may do.
        role: Role,
    },
    /// A node that showed the certificate of a key that the hub knows.
    Node {
        /// Its number in the store.
        no: i64,
        /// Its name, as the store says and not as the certificate does.
        name: NodeId,
        /// Whether its certificate has run out: then it may have a new one and nothing else.
        expired: bool,
    },
}

impl Who {
    /// As the audit log has it: `operator:ann`, `node:pump-7`.
    pub fn name(&self) -> String {
        match self {
            Who::Nobody => "nobody".to_owned(),
            Who::Operator { name, .. } => format!("operator:{name}"),
            Who::Node { name, .. } => format!("node:{name}"),
        }
    }

    /// Whether this is the operator of that name. Nobody may approve what they created.
    pub fn is(&self, other: &str) -> bool {
        matches!(self, Who::Operator { name, .. } if &**name == other)
    }

    /// Whether this is an operator who may do all that `role` may.
    pub fn has(&self, role: Role) -> bool {
        matches!(self, Who::Operator { role: own, .. } if own.covers(role))
    }

    /// Whether this may say something in the name of `node`: a node only in its own.
    pub fn speaks_for(&self, node: &NodeId) -> bool {
        match self {
            Who::Node { name, .. } => name == node,
            // Where nodes have no door of their own, the token of the fleet acts for them.
            Who::Operator { .. } => true,
            Who::Nobody => false,
        }
    }
}

/// What the guard found; nobody where there was none.
impl<S: Send + Sync> FromRequestParts<S> for Who {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Who, Infallible> {
        Ok(parts.extensions.get::<Who>().cloned().unwrap_or(Who::Nobody))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_no_ladder() {
        use Role::{Admin, Approver, Operator, Viewer};
        let check = |a: Role, b: Role, both: Role| {
            assert_eq!((a.meet(b), b.meet(a)), (both, both), "{a:?} {b:?}");
        };
        check(Operator, Approver, Viewer);
        check(Admin, Approver, Approver);
        check(Operator, Operator, Operator);
        check(Viewer, Admin, Viewer);
        assert!(Operator.covers(Viewer) && !Operator.covers(Approver) && !Approver.covers(Operator));
        assert!(Role::ALL.into_iter().all(|role| Role::parse(role.as_str()) == Some(role)));
    }
}
