//! Requests to one repository: who may do what, and what to do when it fails.

use super::challenge::Challenge;
use super::{Candidates, Error, TokenLogin, fetch_token, ping, refusal};
use crate::net::Url;
use crate::net::download::{Patience, Retry, is_transient, passing};
use crate::net::http::{
    self, Allowance, Authorization, Client, Incoming, Pace, Request, Response, Upload,
};
use crate::remote::Secret;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// What somebody has to show to a registry.
#[derive(Clone)]
pub enum Credential {
    /// User and password.
    Login(String, Secret),
    /// A token that the token service changes for others (`identitytoken`).
    Identity(Secret),
    /// A token for the registry itself (`registrytoken`).
    Token(Secret),
}

/// What is going to be done in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Pull,
    /// Read and write.
    Push,
}

/// A repository of a registry.
pub struct Session<'a> {
    client: &'a Client,
    host: String,
    repository: String,
    access: Access,
    credential: Option<Credential>,
    plain: bool,
    pub(super) patience: Patience,
    allowance: Option<Arc<Allowance>>,
    base: OnceLock<Url>,
    challenge: Mutex<Option<Challenge>>,
    authorization: Mutex<HashMap<Vec<String>, Authorization>>,
}

/// One request of a session.
pub(super) struct Ask<'a> {
    /// GET, HEAD, POST, PUT or PATCH.
    pub(super) method: http::Method,
    /// Where.
    pub(super) url: Url,
    /// More header fields; no secrets.
    pub(super) headers: Vec<(&'static str, String)>,
    /// Type and bytes of a small body.
    pub(super) body: Option<(&'static str, &'a [u8])>,
    /// A large body instead.
    pub(super) upload: Option<Upload<'a>>,
    /// Time without progress.
    pub(super) idle: Duration,
    /// Another repository that is read from.
    pub(super) also: Option<&'a str>,
}

impl<'a> Session<'a> {
    /// Names a repository; nothing is sent yet.
    ///
    /// `plain` is the user's wish to do without encryption.
    pub fn new(
        client: &'a Client,
        registry: &str,
        repository: &str,
        access: Access,
        credential: Option<Credential>,
        plain: bool,
    ) -> Self {
        Self {
            client,
            host: registry.to_owned(),
            repository: repository.to_owned(),
            access,
            credential,
            plain,
            patience: Patience::default(),
            allowance: None,
            base: OnceLock::new(),
            challenge: Mutex::new(None),
            authorization: Mutex::new(HashMap::new()),
        }
    }

    /// Names a repository of a registry whose address is known, and asks what it wants.
    ///
    /// # Errors
    /// [`Error::Name`], or nobody answers.
    pub fn at(
        client: &'a Client,
        registry: &Url,
        repository: &str,
        access: Access,
        credential: Option<Credential>,
    ) -> Result<Self, Error> {
        let invalid = || Error::Name(registry.to_string());
        let host = registry.host_str().ok_or_else(invalid)?;
        let host = match registry.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let plain = registry.scheme() == "http";
        let this = Self::new(client, &host, repository, access, credential, plain);
        let base = registry.join("/v2/").map_err(|_| invalid())?;
        let answer = client.send(&Request::get(base.clone()))?;
        *lock(&this.challenge) = answer.challenge(&base).filter(|_| answer.status == 401);
        let _ = this.base.set(base);
        Ok(this)
    }

    /// Changes how failures are met.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Limits the time of all requests together.
    #[must_use]
    pub fn with_allowance(mut self, allowance: Allowance) -> Self {
        self.allowance = Some(Arc::new(allowance));
        self
    }

    /// The name of the repository, without its registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Finds out how the registry is reached and what it asks for.
    ///
    /// # Errors
    /// Nobody answers, or it is no registry.
    pub fn connect(&self) -> Result<(), Error> {
        if self.base.get().is_some() {
            return Ok(());
        }
        let candidates = Candidates::of(&self.host, self.plain)?;
        let (url, answer) = self.again(
            || ping(self.client, &candidates),
            |(_, answer)| passing(answer),
        )?;
        match answer.status {
            200 => {}
            401 => {
                *lock(&self.challenge) = answer.challenge(&url);
            }
            _ => return Err(refusal("GET", &url, &answer, None)),
        }
        // Another thread may have been faster; both found the same.
        let _ = self.base.set(url);
        Ok(())
    }

    /// An address below `/v2/<repository>/`.
    pub(super) fn url(&self, path: &str) -> Result<Url, Error> {
        self.connect()?;
        let base = self
            .base
            .get()
            .ok_or_else(|| Error::Name(self.host.clone()))?;
        base.join(&format!("{}/{path}", self.repository))
            .map_err(|_| Error::Name(format!("{}/{}", self.host, self.repository)))
    }

    /// Whether an address belongs to the registry itself, so that it gets the credential.
    fn is_own(&self, url: &Url) -> bool {
        self.base
            .get()
            .is_some_and(|base| base.origin() == url.origin())
    }

    /// The address that a registry names for the rest of an upload.
    ///
    /// # Errors
    /// [`Error::Location`]: none, or one that leads to where no registry of the net leads.
    pub(super) fn location(&self, asked: &Url, answer: &Response) -> Result<Url, Error> {
        let text = answer.header("location").unwrap_or_default();
        self.named(asked, text)
            .ok_or_else(|| Error::Location(text.chars().take(200).collect()))
    }

    /// The address of the next page of a list.
    ///
    /// # Errors
    /// [`Error::Answer`]: it leads to another server, and a part of a list is not the list.
    pub(super) fn next_page(&self, asked: &Url, target: &str) -> Result<Url, Error> {
        self.named(asked, target)
            .filter(|url| self.is_own(url))
            .ok_or_else(|| {
                let told: String = target.chars().take(200).collect();
                Error::Answer(format!(
                    "list goes on at {told:?}, which is not the registry"
                ))
            })
    }

    /// An address that a registry names; nothing if no registry of the net leads there.
    fn named(&self, asked: &Url, text: &str) -> Option<Url> {
        let mut url = asked.join(text).ok()?;
        let base = self.base.get()?;
        if text.is_empty() || !matches!(url.scheme(), "http" | "https") {
            return None;
        }
        // What a server puts there is no credential of the user.
        url.set_username("").ok()?;
        url.set_password(None).ok()?;
        url.set_fragment(None);
        // Behind a proxy that ends TLS many registries believe that they speak http.
        let same_host = url.host_str() == base.host_str();
        let forgot_tls = base.scheme() == "https" && url.scheme() == "http" && same_host;
        if forgot_tls && (url.port() == base.port() || url.port() == Some(80)) {
            url.set_scheme("https").ok()?;
            url.set_port(base.port()).ok()?;
        }
        http::check_hop(base, base, &url).ok()?;
        Some(url)
    }

    /// Sends a request; what may pass is tried again, and what needs a login gets one.
    ///
    /// # Errors
    /// No answer. A refusal is an answer.
    pub(super) fn send(&self, ask: &Ask<'_>) -> Result<Response, Error> {
        self.again(|| self.once(ask), passing)
    }

    /// A refusal as an error; what was sent to the registry does not come back in it.
    pub(super) fn refuse(&self, ask: &Ask<'_>, answer: &Response) -> Error {
        let mut url = ask.url.clone();
        // The state of an upload is nobody's business.
        if url.query().is_some() {
            url.set_query(Some("..."));
        }
        let mut error = refusal(ask.method.name(), &url, answer, None);
        if let Error::Status { body, .. } = &mut error {
            for known in lock(&self.authorization).values() {
                *body = known.redact(body);
            }
            let known = match &self.credential {
                Some(Credential::Login(user, password)) => {
                    Some(Authorization::basic(user, password.expose()))
                }
                Some(Credential::Identity(token) | Credential::Token(token)) => {
                    Authorization::bearer(token.expose())
                }
                None => None,
            };
            if let Some(known) = known {
                *body = known.redact(body);
            }
        }
        error
    }

    /// As [`Session::send`], once, with the head of the answer before its body.
    pub(super) fn open(&self, ask: &Ask<'_>) -> Result<Incoming, Error> {
        self.with_login(
            ask,
            |request| Ok(self.client.open(request)?),
            |answer| {
                let is_refused = answer.status() == 401 && self.is_own(answer.url());
                is_refused.then(|| Challenge::choose(answer.headers("www-authenticate")))
            },
        )
    }

    /// As [`Session::send`], once.
    pub(super) fn once(&self, ask: &Ask<'_>) -> Result<Response, Error> {
        let send = |request: &Request| match &ask.upload {
            Some(upload) => Ok(self.client.upload(request, upload)?),
            None => Ok(self.client.send(request)?),
        };
        self.with_login(ask, send, |answer: &Response| {
            let is_refused = answer.status == 401 && self.is_own(answer.url());
            is_refused.then(|| answer.challenge(answer.url()))
        })
    }

    /// Sends a request with what is known to be asked for, and once more if that is not enough.
    ///
    /// `refused` tells of refusals by the registry itself: those of a store behind it are no
    /// business of its login.
    fn with_login<T>(
        &self,
        ask: &Ask<'_>,
        send: impl Fn(&Request) -> Result<T, Error>,
        refused: impl Fn(&T) -> Option<Option<Challenge>>,
    ) -> Result<T, Error> {
        let own = self.is_own(&ask.url);
        let mut request = Request {
            method: ask.method,
            headers: ask.headers.clone(),
            body: ask.body.map(|(kind, bytes)| (kind, bytes.to_vec())),
            timeout: ask.idle,
            pace: Pace::Idle,
            plain: self.plain,
            max_body: super::content::MAX_MANIFEST,
            allowance: self.allowance.clone(),
            ..Request::get(ask.url.clone())
        };
        if own {
            request.authorization = self.authorize(ask.also, false)?;
        }
        let answer = send(&request)?;
        let Some(challenge) = refused(&answer).filter(|_| own) else {
            return Ok(answer);
        };
        // A token that has expired, or a right that was not asked for at first.
        if let Some(challenge) = challenge {
            *lock(&self.challenge) = Some(challenge);
        }
        match self.authorize(ask.also, true)? {
            None => Ok(answer),
            with => {
                request.authorization = with;
                send(&request)
            }
        }
    }

    /// What is sent along: nothing, a password, or a token, which may be a stored one.
    fn authorize(&self, also: Option<&str>, fresh: bool) -> Result<Option<Authorization>, Error> {
        let Some(challenge) = lock(&self.challenge).clone() else {
            return Ok(None);
        };
        let base = self
            .base
            .get()
            .ok_or_else(|| Error::Name(self.host.clone()))?;
        match challenge.scheme.as_str() {
            "basic" => match &self.credential {
                Some(Credential::Login(user, password)) => {
                    self.may_tell_password(base)?;
                    Ok(Some(Authorization::basic(user, password.expose())))
                }
                _ => Ok(None),
            },
            "bearer" => {
                if let Some(Credential::Token(token)) = &self.credential {
                    self.may_tell_password(base)?;
                    return Ok(Authorization::bearer(token.expose()));
                }
                let scopes = self.scopes(&challenge, also);
                if !fresh && let Some(known) = lock(&self.authorization).get(&scopes) {
                    return Ok(Some(known.clone()));
                }
                let login = match &self.credential {
                    Some(Credential::Login(user, password)) => {
                        // Who can change this answer can name any token service.
                        self.may_tell_password(base)?;
                        Some(TokenLogin::Basic(Authorization::basic(
                            user,
                            password.expose(),
                        )))
                    }
                    Some(Credential::Identity(token)) => {
                        self.may_tell_password(base)?;
                        Some(TokenLogin::Identity(token.clone()))
                    }
                    Some(Credential::Token(_)) | None => None,
                };
                let names: Vec<&str> = scopes.iter().map(String::as_str).collect();
                let token = fetch_token(self.client, &challenge, base, &names, login)?;
                lock(&self.authorization).insert(scopes, token.clone());
                Ok(Some(token))
            }
            other => Err(Error::Challenge(other.to_owned())),
        }
    }

    fn may_tell_password(&self, base: &Url) -> Result<(), Error> {
        if base.scheme() == "https" || http::is_loopback(base) || self.plain {
            return Ok(());
        }
        Err(Error::PlainPassword(self.host.clone()))
    }

    fn scopes(&self, challenge: &Challenge, also: Option<&str>) -> Vec<String> {
        let actions = match self.access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        let mut scopes = vec![format!("repository:{}:{actions}", self.repository)];
        if let Some(also) = also.filter(|also| *also != self.repository) {
            scopes.push(format!("repository:{also}:pull"));
        }
        // Some registries use scopes of another form; other repositories are not their business.
        let odd = challenge.value("scope").unwrap_or_default().split(' ');
        let odd = odd.filter(|scope| !scope.is_empty() && !scope.starts_with("repository:"));
        scopes.extend(odd.map(str::to_owned));
        scopes
    }

    /// Works until it works, as long as failures are of the kind that passes; the last one is the
    /// answer. `passing` tells of an answer that is such a failure, with the time to wait.
    fn again<T>(
        &self,
        work: impl Fn() -> Result<T, Error>,
        passing: impl Fn(&T) -> Option<Option<Duration>>,
    ) -> Result<T, Error> {
        let mut retry = Retry::new(self.patience);
        loop {
            match work() {
                Err(error) if is_transient(&error) && retry.wait(None) => {}
                Err(error) => return Err(error),
                Ok(answer) => match passing(&answer) {
                    Some(asked) if retry.wait(asked) => {}
                    _ => return Ok(answer),
                },
            }
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
