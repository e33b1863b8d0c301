//! Signing in at a provider: the way there, and the way back.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, Html, IntoResponse, Redirect, Response};
use package::trust::canonical::Value;

use crate::access::cookies;
use crate::access::oidc::provider::Provider;
use crate::access::oidc::{self, Back, OidcError, Person};
use crate::access::session::{self, AWAY_COOKIE};
use crate::access::who::Who;
use crate::api::refusal::{Asked, Refusal};
use crate::console::page::PageRefusal;
use crate::state::HubState;
use crate::store::audit::{self, Entry};
use crate::store::operators::{self, SignedIn};

/// What a browser gets that came back. It goes on by itself: a cookie for this site alone is not sent along a way that began at
/// another.
const COME_BACK: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Signed in</title>\
    <meta http-equiv=\"refresh\" content=\"0; url=/\"><p>Signed in. <a href=\"/\">Go on</a>.</html>";

/// Sends the browser to the provider.
pub async fn begin(State(state): State<Arc<HubState>>) -> Result<Response, PageRefusal> {
    let provider = provider(&state)?;
    let draw = || oidc::drawn(&mut **state.entropy());
    let sent = oidc::begin(provider, state.access.sealer(), draw, state.now_ms()).await.map_err(refusal)?;
    Ok(([(header::SET_COOKIE, sent.cookie)], Redirect::to(&sent.url)).into_response())
}

/// Takes it back, and lets in whom the provider knows and the config gives a role.
pub async fn back(
    State(state): State<Arc<HubState>>,
    headers: HeaderMap,
    Asked(back): Asked<Back>,
) -> Result<Response, PageRefusal> {
    let provider = provider(&state)?;
    let cookie = cookies(&headers).find(|(name, _)| *name == AWAY_COOKIE).map(|(_, value)| value);
    let done = oidc::finish(provider, state.access.sealer(), back, cookie, state.now_ms()).await;
    let person = done.map_err(refusal)?;
    let who = take_in(&state, person).await?;
    let cookie = state.access.session_cookie(&who);
    let cookie = cookie.ok_or_else(|| Refusal::later("session", "there is no session".to_owned(), 5))?;
    let cookies = AppendHeaders([(header::SET_COOKIE, cookie), (header::SET_COOKIE, session::back())]);
    Ok((cookies, [(header::CACHE_CONTROL, "no-store")], Html(COME_BACK)).into_response())
}

/// Keeps what the provider says of somebody, as it was at this sign-in.
async fn take_in(state: &HubState, person: Person) -> Result<Who, Refusal> {
    let (now_ms, role) = (state.now_ms(), person.role);
    let done = state.writer.within(move |writer| {
        Box::pin(async move {
            let Person { subject, name, role } = person;
            let done = operators::sign_in(writer, &subject, &name, role, now_ms).await?;
            if let SignedIn::As(name) = &done {
                let entry = Entry {
                    at_ms: now_ms,
                    who: format!("operator:{name}"),
                    act: "sign-in".to_owned(),
                    about: name.clone(),
                    why: String::new(),
                    before: None,
                    after: Some(Value::object([
                        ("role", role.as_str().into()),
                        ("subject", subject.as_str().into()),
                    ])),
                };
                audit::append(writer, &entry).await?;
            }
            Ok(done)
        })
    });
    let no = |code, message: &str, mend| Refusal::new(StatusCode::FORBIDDEN, code, message.to_owned(), mend);
    let name = match done.await? {
        SignedIn::As(name) => name,
        SignedIn::Disabled => {
            return Err(no("disabled", "You are out here.", "An admin of the hub knows why."));
        }
        SignedIn::NameTaken => {
            let mend =
                "An admin of the hub can say who is who; nobody takes over an operator by being called so.";
            return Err(no("name-taken", "There is another operator of your name here.", mend));
        }
    };
    state.refresh_access().await?;
    Ok(Who::Operator { name: name.into(), role })
}

fn provider(state: &HubState) -> Result<&Provider, Refusal> {
    let nowhere = || {
        Refusal::not_found(
            "Nobody signs in elsewhere here.".to_owned(),
            "Sign in with a token, or add [oidc] to the hub's config.",
        )
    };
    state.oidc.as_ref().ok_or_else(nowhere)
}

fn refusal(error: OidcError) -> PageRefusal {
    let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    tracing::warn!(%error, why, code = error.code(), "somebody was not signed in");
    let (status, mend) = match &error {
        OidcError::Provider(_) => (StatusCode::BAD_GATEWAY, "Try again; the hub's log says more."),
        OidcError::State => (StatusCode::FORBIDDEN, "Begin at /login, in this browser."),
        OidcError::NoRole(_) | OidcError::Name(_) => {
            (StatusCode::FORBIDDEN, "Who keeps the hub's config gives roles, in [oidc] roles.")
        }
        _ => (StatusCode::FORBIDDEN, "Begin again at /login; if it stays so, the hub's log says more."),
    };
    let message = format!("{error} ({})", error.code());
    Refusal::new(status, error.code(), message, mend).into()
}
