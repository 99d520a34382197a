//! The attributes `#[tidegate_sdk::handler]`, `#[tidegate_sdk::command]`, `#[tidegate_sdk::codec]` and
//! `#[tidegate_sdk::router]`. They read just enough of the impl to export it: the name of the type and which optional functions are there. Written without syn: a plugin that only uses
//! the SDK should not have to compile a parser for that.

use proc_macro::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};

/// Exports an `impl Handler for …`; documented where `tidegate_sdk` re-exports it.
#[proc_macro_attribute]
pub fn handler(arguments: TokenStream, item: TokenStream) -> TokenStream {
    if let Some(token) = arguments.into_iter().next() {
        return refuse(token.span(), "#[tidegate_sdk::handler] takes no arguments");
    }
    match Impl::read(item, EXPECTED_HANDLER) {
        Ok(item) => item.expand_handler(),
        Err((span, text)) => refuse(span, text),
    }
}

/// Exports an `impl Command for …`; documented where `tidegate_sdk` re-exports it.
#[proc_macro_attribute]
pub fn command(arguments: TokenStream, item: TokenStream) -> TokenStream {
    if let Some(token) = arguments.into_iter().next() {
        return refuse(token.span(), "#[tidegate_sdk::command] takes no arguments");
    }
    match Impl::read(item, EXPECTED_COMMAND) {
        Ok(item) => {
            let exported = export(
                &item.name,
                "CommandPlugin",
                &[("::command", "export_command")],
            );
            item.expand(exported)
        }
        Err((span, text)) => refuse(span, text),
    }
}

/// Exports an `impl Codec for …`; documented where `tidegate_sdk` re-exports it.
#[proc_macro_attribute]
pub fn codec(arguments: TokenStream, item: TokenStream) -> TokenStream {
    if let Some(token) = arguments.into_iter().next() {
        return refuse(token.span(), "#[tidegate_sdk::codec] takes no arguments");
    }
    match Impl::read(item, EXPECTED_CODEC) {
        Ok(item) => {
            let exported = export_codec(&item.name);
            item.expand(exported)
        }
        Err((span, text)) => refuse(span, text),
    }
}

/// Exports an `impl Router for …`; documented where `tidegate_sdk` re-exports it.
#[proc_macro_attribute]
pub fn router(arguments: TokenStream, item: TokenStream) -> TokenStream {
    if let Some(token) = arguments.into_iter().next() {
        return refuse(token.span(), "#[tidegate_sdk::router] takes no arguments");
    }
    match Impl::read(item, EXPECTED_ROUTER) {
        Ok(item) => {
            let exports = [("::router", "export_router")];
            let exported = export(&item.name, "RouterPlugin", &exports);
            item.expand(exported)
        }
        Err((span, text)) => refuse(span, text),
    }
}

/// An `impl … Trait for Type { … }`, cut in three.
struct Impl {
    /// Attributes, and everything up to `for`.
    head: Vec<TokenTree>,
    /// The type.
    name: Ident,
    /// What stands in the braces.
    body: Group,
}

const EXPECTED_HANDLER: &str = "#[tidegate_sdk::handler] stands on `impl Handler for YourType \
                                { … }`, where YourType is a plain name without generics";
const EXPECTED_COMMAND: &str = "#[tidegate_sdk::command] stands on `impl Command for YourType \
                                { … }`, where YourType is a plain name without generics";
const EXPECTED_ROUTER: &str = "#[tidegate_sdk::router] stands on `impl Router for YourType \
                               { … }`, where YourType is a plain name without generics";

const EXPECTED_CODEC: &str = "#[tidegate_sdk::codec] stands on `impl Codec for YourType { … }`, \
                              where YourType is a plain name without generics";

impl Impl {
    fn read(item: TokenStream, expected: &'static str) -> Result<Self, (Span, &'static str)> {
        let mut tokens: Vec<TokenTree> = item.into_iter().collect();
        let Some(TokenTree::Group(body)) = tokens.pop() else {
            return Err((Span::call_site(), expected));
        };
        let Some(TokenTree::Ident(name)) = tokens.pop() else {
            return Err((body.span(), expected));
        };
        let is = |token: Option<&TokenTree>, word: &str| matches!(token, Some(TokenTree::Ident(ident)) if ident.to_string() == word);
        let exported = body.delimiter() == Delimiter::Brace
            && is(tokens.last(), "for")
            && tokens.iter().any(|token| is(Some(token), "impl"));
        if !exported {
            return Err((name.span(), expected));
        }
        Ok(Self {
            head: tokens,
            name,
            body,
        })
    }

    /// Whether a function of this name stands directly in the impl.
    fn has(&self, function: &str) -> bool {
        let mut after_fn = false;
        self.body.stream().into_iter().any(|token| match token {
            TokenTree::Ident(ident) => {
                let ident = ident.to_string();
                let found = after_fn && ident == function;
                after_fn = ident == "fn";
                found
            }
            TokenTree::Group(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {
                after_fn = false;
                false
            }
        })
    }

    fn expand_handler(mut self) -> TokenStream {
        let mut exports = vec![("", "export_handler")];
        // Exported only if the author wrote it: the host calls nothing in vain, and can tell a caller
        // that this plugin takes no requests.
        if self.has("on_request") {
            exports.push(("::requests", "export_requests"));
        }
        if self.has("on_handshake") || self.has("on_sign_in") {
            exports.push(("::handshake", "export_handshake"));
        }
        if self.has("on_timer") {
            exports.push(("::timer", "export_timer"));
        }
        if self.has("on_task") || self.has("on_finished") {
            exports.push(("::task", "export_task"));
        }
        if self.has("on_buffer_full") || self.has("on_buffer_drain") {
            exports.push(("::buffer", "export_buffer"));
        }
        if self.has("on_peer_message") {
            exports.push(("::peer", "export_peer"));
        }
        if self.has("on_http") {
            exports.push(("::http", "export_http"));
        }
        match (self.has("save"), self.has("restore")) {
            (true, true) => exports.push(("::state", "export_state")),
            (false, false) => {}
            (true, false) | (false, true) => {
                return refuse(
                    self.name.span(),
                    "`save` and `restore` come together: what one gives, the other takes",
                );
            }
        }
        if !self.has("on_start") {
            let mut body = self.body.stream();
            // The span of the type: an error about a missing Default then points there.
            body.extend(at(
                self.name.span(),
                "fn on_start(_: &::tidegate_sdk::Config) -> ::tidegate_sdk::Result<Self> {
                     ::core::result::Result::Ok(<Self as ::core::default::Default>::default())
                 }",
            ));
            let span = self.body.span();
            self.body = Group::new(Delimiter::Brace, body);
            self.body.set_span(span);
        }
        let exported = export(&self.name, "Plugin", &exports);
        self.expand(exported)
    }

    /// The impl, and its exports behind it.
    fn expand(self, exported: TokenStream) -> TokenStream {
        let mut output: TokenStream = self.head.into_iter().collect();
        output.extend([TokenTree::Ident(self.name), TokenTree::Group(self.body)]);
        output.extend(exported);
        output
    }
}

/// The exports, as modules of the bindings and their macros, and the place where the plugin's
/// value lives. Only under wasm: natively the symbols would not link.
fn export(name: &Ident, plugin: &str, exports: &[(&str, &str)]) -> TokenStream {
    let exports: String = exports
        .iter()
        .map(|(module, export)| {
            format!(
                "::tidegate_sdk::bindings{module}::{export}!(
                     Exported with_types_in ::tidegate_sdk::bindings{module}
                 );"
            )
        })
        .collect();
    let text = format!(
        "#[cfg(target_family = \"wasm\")]
         const _: () = {{
             type Exported = {name};
             ::std::thread_local! {{
                 static SLOT: ::tidegate_sdk::export::Slot<Exported> =
                     const {{ ::tidegate_sdk::export::Slot::new(::core::option::Option::None) }};
             }}
             impl ::tidegate_sdk::export::{plugin} for Exported {{
                 fn slot() -> &'static ::std::thread::LocalKey<::tidegate_sdk::export::Slot<Self>> {{
                     &SLOT
                 }}
             }}
             {exports}
         }};"
    );
    at(Span::call_site(), &text)
}

/// The export of a codec, which has no value.
fn export_codec(name: &Ident) -> TokenStream {
    let text = format!(
        "#[cfg(target_family = \"wasm\")]
         const _: () = {{
             type Exported = {name};
             impl ::tidegate_sdk::export::CodecPlugin for Exported {{}}
             ::tidegate_sdk::bindings::codec::export_codec!(
                 Exported with_types_in ::tidegate_sdk::bindings::codec
             );
         }};"
    );
    at(Span::call_site(), &text)
}

fn refuse(span: Span, text: &str) -> TokenStream {
    at(span, &format!("::core::compile_error!({text:?});"))
}

/// Parses `text`, which is ours and always parses, and gives every token this place.
fn at(span: Span, text: &str) -> TokenStream {
    let tokens: TokenStream = text.parse().unwrap_or_default();
    place(span, tokens)
}

fn place(span: Span, tokens: TokenStream) -> TokenStream {
    let placed = tokens.into_iter().map(|token| match token {
        TokenTree::Group(group) => {
            let mut placed = Group::new(group.delimiter(), place(span, group.stream()));
            placed.set_span(span);
            TokenTree::Group(placed)
        }
        mut other @ (TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_)) => {
            other.set_span(span);
            other
        }
    });
    placed.collect()
}
