from lib import *
def members(C,tr,f,T,alpha=None,ka=1.,kg=.2):
    y=np.concatenate([T[n] for n in tr]).astype(float); out=[]
    for view in (0,1):
        x=np.concatenate([C[n]['s'][view] for n in tr])
        out.append(ridge(x,y,float(alpha or x.shape[1]))(C[f]['s'][view]))
        out.append(kern(x,y,ka,kg)(C[f]['s'][view]))
    return out
def show(tag,f,e,c,t,Yf):
    mt=composition(Yf)
    rec=None
    rec2,t2=depth_match(e,c); avg=(e+rec2)/2; cc=(c+composition(avg))/2
    tot=np.log2(1+(np.exp2(Yf.astype(float))-1).sum(1))
    print(f"{f} {tag}: log {figs(e,Yf):.3f}/{mse(e,Yf):.3f} comp(e) {cfigs(composition(e),mt)[0]:.3f} | c {cfigs(c,mt)[0]:.3f} ({cfigs(c,mt)[1]:.3f}) | rec2 {figs(rec2,Yf):.3f}/{mse(rec2,Yf):.3f} comp {cfigs(composition(rec2),mt)[0]:.3f} | avg {figs(avg,Yf):.3f}/{mse(avg,Yf):.3f} comp {cfigs(composition(avg),mt)[0]:.3f} cc {cfigs(cc,mt)[0]:.3f} pairs e {pairs(e):.2f} avg {pairs(avg):.2f} rec2 {pairs(rec2):.2f} true {pairs(Yf):.2f} | tot r: direct {np.corrcoef(t[:,0],tot)[0,1]:.3f} match {np.corrcoef(t2,tot)[0,1]:.3f}",flush=True)
def run(ds,specs):
    for f in ds['folds']:
        tr=[n for n in ds['names'] if n!=f]; pan=panel(ds,tr)
        Y={n:log_counts(section(ds,n),pan) for n in ds['names']}
        comp={n:composition(Y[n]) for n in Y}
        tot={n:np.log2(1+(np.exp2(Y[n].astype(float))-1).sum(1,keepdims=True)) for n in Y}
        alle,allc,allt=[],[],[]
        for (enc,side,px) in specs:
            C={n:cond(ds,n,enc,side,px) for n in ds['names']}
            E,Cc,T=members(C,tr,f,Y),members(C,tr,f,comp),members(C,tr,f,tot)
            alle+=E; allc+=Cc; allt+=T
            show(f'{enc} {side}@{px}',f,np.mean(E,0),np.mean(Cc,0),np.mean(T,0),Y[f])
        if len(specs)>1: show('ALL',f,np.mean(alle,0),np.mean(allc,0),np.mean(allt,0),Y[f])
if __name__=='__main__':
    ds=H if sys.argv[1]=='h' else M
    run(ds,[(a.split(':')[0],a.split(':')[1],int(a.split(':')[2])) for a in sys.argv[2:]])
