# Sourced by run: uv, which installs what pip does in a tenth of the time. It reads nothing of pip's configuration, so it is told.

pip_says() { # OPTION SEPARATOR
  echo "$configured" | sed -n "s/^[^=]*\.$1='\(.*\)'$/\1/p" | sed 's/\\n/ /g' | xargs -n1 | sort -u | paste -sd "$2"
}

install_uv() {
  local configured name option separator
  configured=$(python3 -m pip config list)
  python3 -m venv .venv-uv
  .venv-uv/bin/python -m pip install --quiet uv==0.13.8
  while read -r name option separator; do
    export "$name=$(pip_says "$option" "${separator:- }")"
    [ -n "${!name}" ] || unset "$name"
  done <<< "UV_DEFAULT_INDEX index-url
UV_INDEX extra-index-url
UV_FIND_LINKS find-links ,
UV_CONSTRAINT constraint
SSL_CERT_FILE cert"
  export UV_INDEX_STRATEGY=unsafe-best-match UV_HTTP_TIMEOUT=180 # as pip: the best of all indexes
}
