//! The attribute `#[tidegate_sdk::handler]`. It reads just enough of the impl to export it: the
//! name of the type and whether `on_start` is there. Written without syn: a plugin that only uses
//! the SDK should not have to compile a parser for that.

use proc_macro::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};

/// Exports an `impl Handler for …`; documented where `tidegate_sdk` re-exports it.
#[proc_macro_attribute]
pub fn handler(arguments: TokenStream, item: TokenStream) -> TokenStream {
    if let Some(token) = arguments.into_iter().next() {
        return refuse(token.span(), "#[tidegate_sdk::handler] takes no arguments");
    }
    match Impl::read(item) {
        Ok(item) => item.expand(),
        Err((span, text)) => refuse(span, text),
    }
}

/// An `impl … Handler for Type { … }`, cut in three.
struct Impl {
    /// Attributes, and everything up to `for`.
    head: Vec<TokenTree>,
    /// The type.
    name: Ident,
    /// What stands in the braces.
    body: Group,
}

const EXPECTED: &str = "#[tidegate_sdk::handler] stands on `impl Handler for YourType { … }`, \
                        where YourType is a plain name without generics";

impl Impl {
    fn read(item: TokenStream) -> Result<Self, (Span, &'static str)> {
        let mut tokens: Vec<TokenTree> = item.into_iter().collect();
        let Some(TokenTree::Group(body)) = tokens.pop() else {
            return Err((Span::call_site(), EXPECTED));
        };
        let Some(TokenTree::Ident(name)) = tokens.pop() else {
            return Err((body.span(), EXPECTED));
        };
        let is = |token: Option<&TokenTree>, word: &str| matches!(token, Some(TokenTree::Ident(ident)) if ident.to_string() == word);
        let exported = body.delimiter() == Delimiter::Brace
            && is(tokens.last(), "for")
            && tokens.iter().any(|token| is(Some(token), "impl"));
        if !exported {
            return Err((name.span(), EXPECTED));
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

    fn expand(self) -> TokenStream {
        let mut body = self.body.stream();
        if !self.has("on_start") {
            // The span of the type: an error about a missing Default then points there.
            body.extend(at(
                self.name.span(),
                "fn on_start(_: &::tidegate_sdk::Config) -> ::tidegate_sdk::Result<Self> {
                     ::core::result::Result::Ok(<Self as ::core::default::Default>::default())
                 }",
            ));
        }
        let mut braces = Group::new(Delimiter::Brace, body);
        braces.set_span(self.body.span());

        let mut output: TokenStream = self.head.into_iter().collect();
        output.extend([
            TokenTree::Ident(self.name.clone()),
            TokenTree::Group(braces),
        ]);
        output.extend(export(&self.name));
        output
    }
}

/// The exports, and the place where the plugin's value lives. Only under wasm: natively the
/// symbols would not link.
fn export(name: &Ident) -> TokenStream {
    let text = format!(
        "#[cfg(target_family = \"wasm\")]
         const _: () = {{
             type Exported = {name};
             ::std::thread_local! {{
                 static SLOT: ::tidegate_sdk::export::Slot<Exported> =
                     const {{ ::tidegate_sdk::export::Slot::new(::core::option::Option::None) }};
             }}
             impl ::tidegate_sdk::export::Plugin for Exported {{
                 fn slot() -> &'static ::std::thread::LocalKey<::tidegate_sdk::export::Slot<Self>> {{
                     &SLOT
                 }}
             }}
             ::tidegate_sdk::bindings::export!(Exported with_types_in ::tidegate_sdk::bindings);
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
