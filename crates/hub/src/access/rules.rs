//! What may be asked, by whom: one row for each route. A route without a row is refused, so that forgetting is closed.

use crate::access::who::{Role, Who};

/// What a route asks of whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: it is how one comes in, or says nothing.
    Nothing,
    /// Any role.
    Read,
    /// Any role, or a node: packages, and who vouches for them.
    Fetch,
    /// Operator or admin.
    Operate,
    /// Operator, approver or admin; the route itself looks at which, by what is asked.
    Decide,
    /// Admin.
    Administer,
    /// A node with a certificate in force, in its own name.
    Node,
    /// A node, also one whose certificate has run out.
    Renew,
}

impl Needs {
    /// Who that is, in the words of roles; what an operation of the API says as `x-role`.
    pub fn words(self) -> &'static str {
        match self {
            Needs::Nothing => "nobody",
            Needs::Read => "viewer",
            Needs::Fetch => "viewer, node",
            Needs::Operate => "operator",
            Needs::Decide => "operator, approver",
            Needs::Administer => "admin",
            Needs::Node | Needs::Renew => "node",
        }
    }

    /// Whether only people and their programs do this.
    pub fn is_of_people(self) -> bool {
        matches!(self, Needs::Operate | Needs::Decide | Needs::Administer)
    }
}

use Needs::{Administer, Decide, Fetch, Node, Nothing, Operate, Read, Renew};

/// Method, path as the router has it, and what it takes. `HEAD` is as `GET`.
pub const RULES: &[(&str, &str, Needs)] = &[
    // How one comes in.
    ("GET", "/health", Nothing),
    ("GET", "/login", Nothing),
    ("POST", "/login", Nothing),
    ("GET", "/login/oidc", Nothing),
    ("GET", "/login/oidc/callback", Nothing),
    ("GET", "/assets/{name}", Nothing),
    // The pages.
    ("POST", "/logout", Read),
    ("GET", "/", Read),
    ("GET", "/nodes", Read),
    ("GET", "/nodes/{node}", Read),
    ("GET", "/nodes/{node}/facts", Read),
    ("POST", "/nodes/{node}/labels", Operate),
    ("POST", "/nodes/{node}/deny", Administer),
    ("GET", "/enrol", Read),
    ("POST", "/enrol", Administer),
    ("POST", "/enrol/{id}/withdraw", Administer),
    ("POST", "/enrol/tickets/{id}/admit", Administer),
    ("POST", "/enrol/tickets/{id}/refuse", Administer),
    ("GET", "/groups", Read),
    ("POST", "/groups", Operate),
    ("GET", "/groups/matched", Read),
    ("GET", "/packages", Read),
    ("GET", "/packages/{model}/{release}", Read),
    ("GET", "/rollouts", Read),
    ("GET", "/rollouts/new", Read),
    ("POST", "/rollouts/new", Operate),
    ("GET", "/rollouts/{id}", Read),
    ("POST", "/rollouts/{id}/{order}", Decide),
    ("GET", "/experiments", Read),
    ("GET", "/experiments/{id}", Read),
    ("POST", "/experiments/{id}/{order}", Operate),
    ("GET", "/audit", Read),
    ("GET", "/settings", Read),
    ("POST", "/settings/recovery", Administer),
    ("POST", "/settings/operators", Administer),
    ("POST", "/settings/tokens", Administer),
    ("POST", "/settings/tokens/{id}/revoke", Administer),
    ("POST", "/settings/keys/{key}/pardon", Administer),
    ("GET", "/alerts", Read),
    ("POST", "/alerts/{id}/ack", Operate),
    ("GET", "/records", Read),
    ("GET", "/records/{node}/{journal}/{stream}/{seq}", Read),
    ("GET", "/api", Read),
    // What everybody with a role may read.
    ("GET", "/metrics", Read),
    ("GET", "/api/v1/openapi.json", Read),
    ("GET", "/api/v1/overview", Read),
    ("GET", "/api/v1/replicas", Read),
    ("GET", "/api/v1/retention", Read),
    ("POST", "/api/v1/retention/confirm", Administer),
    ("GET", "/api/v1/nodes", Read),
    ("GET", "/api/v1/nodes/{node}", Read),
    ("GET", "/api/v1/nodes/{node}/series", Read),
    ("GET", "/api/v1/nodes/{node}/facts", Read),
    ("PUT", "/api/v1/nodes/{node}/labels", Operate),
    ("GET", "/api/v1/nodes/{node}/why", Read),
    ("GET", "/api/v1/nodes/{node}/figures", Read),
    ("GET", "/api/v1/labels", Read),
    ("GET", "/api/v1/groups", Read),
    ("GET", "/api/v1/groups/{group}", Read),
    ("PUT", "/api/v1/groups/{group}", Operate),
    ("DELETE", "/api/v1/groups/{group}", Operate),
    ("GET", "/api/v1/releases", Read),
    ("GET", "/api/v1/releases/{model}/{release}", Read),
    ("GET", "/api/v1/releases/{model}/{release}/coverage", Read),
    ("GET", "/log/checkpoint", Fetch),
    ("GET", "/log/tile/{*path}", Fetch),
    ("GET", "/log/heads/{name}", Fetch),
    ("GET", "/api/v1/nodes/{node}/live", Read),
    ("GET", "/api/v1/live", Read),
    ("GET", "/api/v1/alerts", Read),
    ("POST", "/api/v1/alerts/{id}/ack", Operate),
    ("GET", "/api/v1/gaps", Read),
    ("GET", "/api/v1/records", Read),
    ("GET", "/api/v1/records/{node}/{journal}/{stream}/{seq}", Read),
    // What nodes call.
    ("POST", "/api/v1/checkin", Node),
    ("GET", "/api/v1/wait", Node),
    ("POST", "/api/v1/records", Node),
    ("POST", "/api/v1/enrol", Nothing),
    ("GET", "/api/v1/enrol/{ticket}", Nothing),
    ("POST", "/api/v1/time", Nothing),
    ("POST", "/api/v1/identity/renew", Renew),
    // Who may come in, and who may do what.
    ("GET", "/api/v1/me", Read),
    ("GET", "/api/v1/operators", Administer),
    ("PUT", "/api/v1/operators/{name}", Administer),
    ("GET", "/api/v1/tokens", Administer),
    ("POST", "/api/v1/tokens", Administer),
    ("DELETE", "/api/v1/tokens/{id}", Administer),
    ("GET", "/api/v1/enrolments", Administer),
    ("POST", "/api/v1/enrolments", Administer),
    ("DELETE", "/api/v1/enrolments/{id}", Administer),
    ("GET", "/api/v1/tickets", Operate),
    ("POST", "/api/v1/tickets/{id}/admit", Operate),
    ("POST", "/api/v1/tickets/{id}/refuse", Operate),
    ("GET", "/api/v1/keys", Administer),
    ("POST", "/api/v1/denied", Administer),
    ("DELETE", "/api/v1/denied/{key}", Administer),
    ("GET", "/api/v1/recovery", Administer),
    ("POST", "/api/v1/recovery", Administer),
    // Rollouts, and who did what.
    ("POST", "/api/v1/plans", Decide),
    ("POST", "/api/v1/plans/draft", Operate),
    ("GET", "/api/v1/rollouts", Read),
    ("POST", "/api/v1/rollouts", Operate),
    ("GET", "/api/v1/rollouts/{id}", Read),
    ("GET", "/api/v1/rollouts/{id}/members", Read),
    ("GET", "/api/v1/rollouts/{id}/documents", Read),
    ("PUT", "/api/v1/rollouts/{id}/documents", Operate),
    ("GET", "/api/v1/rollouts/{id}/evidence", Read),
    ("GET", "/api/v1/rollouts/{id}/why/{node}", Read),
    ("POST", "/api/v1/rollouts/{id}/order", Decide),
    ("GET", "/api/v1/experiments", Read),
    ("POST", "/api/v1/experiments", Operate),
    ("POST", "/api/v1/experiments/draft", Operate),
    ("POST", "/api/v1/experiments/draft/shadow", Operate),
    ("GET", "/api/v1/experiments/{id}", Read),
    ("GET", "/api/v1/experiments/{id}/members", Read),
    ("GET", "/api/v1/experiments/{id}/documents", Read),
    ("PUT", "/api/v1/experiments/{id}/documents", Operate),
    ("GET", "/api/v1/experiments/{id}/why/{node}", Read),
    ("POST", "/api/v1/experiments/{id}/order", Operate),
    ("GET", "/api/v1/audit", Read),
    // Packages, and who vouches for them.
    ("GET", "/v2/", Fetch),
    ("GET", "/v2/{*path}", Fetch),
    ("POST", "/v2/{*path}", Operate),
    ("PUT", "/v2/{*path}", Operate),
    ("PATCH", "/v2/{*path}", Operate),
    ("DELETE", "/v2/{*path}", Operate),
    ("GET", "/tuf/metadata/{file}", Fetch),
    ("GET", "/tuf/targets/{*path}", Fetch),
    ("PUT", "/api/v1/tuf/metadata/{file}", Operate),
    ("GET", "/api/v1/assignments", Fetch),
    ("PUT", "/api/v1/assignments", Operate),
    ("GET", "/api/v1/assignments/{id}", Fetch),
    ("GET", "/api/v1/grants/{sealed}/{to}", Fetch),
    ("PUT", "/api/v1/grants/{sealed}/{to}", Operate),
];

/// What a route asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// This.
    Rule(Needs),
    /// The route is known, the method is not.
    OtherMethod,
    /// Nobody said.
    NoRule,
}

/// The row of a route.
pub fn find(method: &str, path: &str) -> Found {
    let method = if method == "HEAD" { "GET" } else { method };
    let mut rows = RULES.iter().filter(|(_, route, _)| *route == path).peekable();
    if rows.peek().is_none() {
        return Found::NoRule;
    }
    let row = rows.find(|(known, _, _)| *known == method);
    row.map_or(Found::OtherMethod, |(_, _, needs)| Found::Rule(*needs))
}

/// The methods that a route takes, as the header `Allow` lists them.
pub fn allowed(path: &str) -> String {
    let rows = RULES.iter().filter(|(_, route, _)| *route == path);
    let methods = rows.flat_map(|(method, _, _)| match *method {
        "GET" => vec!["GET", "HEAD"],
        other => vec![other],
    });
    methods.collect::<Vec<_>>().join(", ")
}

/// What is said to whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Yes,
    /// Say who you are.
    WhoAreYou,
    /// Not with this role.
    Role,
    /// Only nodes do this.
    OnlyNodes,
    /// Nodes do not do this.
    NotNodes,
    /// Not with a certificate that has run out.
    Expired,
}

/// Whether `who` may. `own_door`: nodes have a door of their own, so that no token acts for them.
pub fn judge(needs: Needs, who: &Who, own_door: bool) -> Verdict {
    let of_role = |needed: Role, role: Role| if role.covers(needed) { Verdict::Yes } else { Verdict::Role };
    match (needs, who) {
        (Nothing, _) => Verdict::Yes,
        (_, Who::Nobody) => Verdict::WhoAreYou,
        (Renew, Who::Node { .. }) => Verdict::Yes,
        (_, Who::Node { expired: true, .. }) => Verdict::Expired,
        (Fetch | Node, Who::Node { .. }) => Verdict::Yes,
        (Read | Operate | Decide | Administer, Who::Node { .. }) => Verdict::NotNodes,
        (Read | Fetch, Who::Operator { role, .. }) => of_role(Role::Viewer, *role),
        (Operate, Who::Operator { role, .. }) => of_role(Role::Operator, *role),
        (Decide, Who::Operator { role, .. }) if role.covers(Role::Approver) => Verdict::Yes,
        (Decide, Who::Operator { role, .. }) => of_role(Role::Operator, *role),
        (Administer, Who::Operator { role, .. }) => of_role(Role::Admin, *role),
        (Node, Who::Operator { role: Role::Admin, .. }) if !own_door => Verdict::Yes,
        (Node | Renew, Who::Operator { .. }) => Verdict::OnlyNodes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_once_and_the_unknown_is_refused() {
        for (at, (method, path, _)) in RULES.iter().enumerate() {
            let again = RULES[at + 1..].iter().any(|(m, p, _)| m == method && p == path);
            assert!(!again, "{method} {path} stands twice");
        }
        assert_eq!(find("HEAD", "/health"), Found::Rule(Nothing));
        assert_eq!(find("DELETE", "/health"), Found::OtherMethod);
        assert_eq!(find("GET", "/api/v1/secrets"), Found::NoRule);
        assert_eq!(allowed("/api/v1/groups/{group}"), "GET, HEAD, PUT, DELETE");
    }
}
