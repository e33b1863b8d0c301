//! The door, where the hub has a token: shown once, then a cookie stands for it.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::extract::rejection::FormRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use crate::access::{Access, session};
use crate::console::page::{Frame, render};

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    frame: Frame,
    wrong: bool,
    /// What the provider is called where people sign in, too.
    elsewhere: Option<&'a str>,
}

/// What the form sends.
#[derive(Debug, Deserialize)]
pub struct Shown {
    token: String,
}

/// The form.
pub async fn form(State(access): State<Arc<Access>>) -> Response {
    if access.is_open() {
        return Redirect::to("/").into_response();
    }
    render(&LoginPage { frame: Frame::bare("Sign in", ""), wrong: false, elsewhere: access.sign_in() })
}

/// Lets in whoever shows the token.
pub async fn enter(State(access): State<Arc<Access>>, shown: Result<Form<Shown>, FormRejection>) -> Response {
    let who = shown.ok().and_then(|Form(shown)| access.by_token(shown.token.trim()));
    match who.and_then(|who| access.session_cookie(&who)) {
        Some(cookie) => ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response(),
        None => {
            let mut response = render(&LoginPage {
                frame: Frame::bare("Sign in", ""),
                wrong: true,
                elsewhere: access.sign_in(),
            });
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            response
        }
    }
}

/// Ends the session of this browser.
pub async fn leave() -> Response {
    ([(header::SET_COOKIE, session::ended())], Redirect::to("/login")).into_response()
}
