# Made by `python -m jobimpact.cli.completion bash`: not by hand.
_jobimpact() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command='' words='' value='' i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        if [[ -n $value ]]; then
            value=''
            continue
        fi
        case ${COMP_WORDS[i]} in
            -j|--jobs|-u|--user|-A|--accounts|-M|--clusters|-S|--starttime|-E|--endtime|--html|--units|--config) value=1 ;;
            -*) ;;
            *)
                command=${COMP_WORDS[i]}
                break
                ;;
        esac
    done
    case $prev in
        -j|--jobs)
            mapfile -t COMPREPLY < <(compgen -W "" -- "$cur")
            return
            ;;
        -u|--user)
            mapfile -t COMPREPLY < <(compgen -u -- "$cur")
            return
            ;;
        -A|--accounts)
            mapfile -t COMPREPLY < <(compgen -W "" -- "$cur")
            return
            ;;
        -M|--clusters)
            mapfile -t COMPREPLY < <(compgen -W "" -- "$cur")
            return
            ;;
        -S|--starttime)
            mapfile -t COMPREPLY < <(compgen -W "" -- "$cur")
            return
            ;;
        -E|--endtime)
            mapfile -t COMPREPLY < <(compgen -W "" -- "$cur")
            return
            ;;
        --html)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        --units)
            mapfile -t COMPREPLY < <(compgen -W "auto J kWh g kg J,g J,kg kWh,g kWh,kg" -- "$cur")
            return
            ;;
        --config)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
    esac
    case $command in
        '') words="report compare progress assess demo account schedule mail serve books inventory store -j --jobs -u --user --me -A --accounts -M --clusters -S --starttime -E --endtime -T --truncate --array --json --profile --csv -P --parsable2 -n --noheader --html --units --no-color --no-pager --config" ;;
        report) words="-h --help --config --me -u --user -A --lab --cluster --week --month --year -S --begin -E --end -M --all --json --html" ;;
        compare) words="-h --help --config --steps --per -S --begin -u --user --json" ;;
        progress) words="-h --help --config --step --metric --set" ;;
        assess) words="-h --help --config --json" ;;
        demo) words="-h --help --dir" ;;
        account) words="-h --help --config --from --to --recompute" ;;
        schedule) words="-h --help --config" ;;
        mail) words="-h --help --config --night --preview --to" ;;
        serve) words="-h --help --config" ;;
        books) words="-h --help --config --json --day --month --embodied --node" ;;
        inventory) words="-h --help --config --json" ;;
        store) words="-h --help --config" ;;
        *) words="-j --jobs -u --user --me -A --accounts -M --clusters -S --starttime -E --endtime -T --truncate --array --json --profile --csv -P --parsable2 -n --noheader --html --units --no-color --no-pager --config" ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -o default -F _jobimpact jobimpact
