from lib import *
from e2 import members, show
import time
def Ks(xtr,xte,kind,gamma=.2):
    sc=Scale(xtr); a,b=sc(xtr).astype(np.float64),sc(xte).astype(np.float64)
    if kind=='lin':
        m=a.mean(0); a,b=a-m,b-m; return a@a.T/a.shape[1], b@a.T/a.shape[1]
    g=gamma/a.shape[1]
    d=lambda u,v:np.exp(-g*np.maximum((u*u).sum(1)[:,None]+(v*v).sum(1)-2*u@v.T,0))
    return d(a,a),d(b,a)
def multinomial(K,Kq,n,amp,temper,iters=60):
    K=torch.tensor(K*amp); Kq=torch.tensor(Kq*amp); n=torch.tensor(n,dtype=torch.float64)
    # cholesky-free: f = K a
    tot=n.sum(1,keepdim=True)
    b=torch.log((n.sum(0)+.5)/(n.sum()+.5*n.shape[1]))
    w=temper if np.isscalar(temper) else temper
    L=torch.linalg.cholesky(K+1e-6*torch.eye(len(K)))
    u=torch.zeros(len(K),n.shape[1],dtype=torch.float64,requires_grad=True); bb=b.clone().requires_grad_(True)
    opt=torch.optim.LBFGS([u,bb],max_iter=iters,history_size=10,line_search_fn='strong_wolfe')
    wt=w*torch.ones_like(tot)
    def closure():
        opt.zero_grad()
        f=bb+L@u
        ll=(n*torch.log_softmax(f,1)).sum(1,keepdim=True)
        loss=-(wt*ll).sum()+.5*(u**2).sum()
        loss.backward(); return loss
    opt.step(closure)
    with torch.no_grad():
        a=torch.linalg.solve_triangular(L.T,u,upper=True)
        f=bb+Kq@a
        return torch.log_softmax(f,1).numpy()
def run(ds,spec,amps,tempers):
    enc,side,px=spec
    for f in ds['folds']:
        tr=[n for n in ds['names'] if n!=f]; pan=panel(ds,tr)
        Y={n:log_counts(section(ds,n),pan) for n in ds['names']}
        comp={n:composition(Y[n]) for n in Y}
        tot={n:np.log2(1+(np.exp2(Y[n].astype(float))-1).sum(1,keepdims=True)) for n in Y}
        C={n:cond(ds,n,enc,side,px) for n in ds['names']}
        E,Cc,T=members(C,tr,f,Y),members(C,tr,f,comp),members(C,tr,f,tot)
        e,c,t=np.mean(E,0),np.mean(Cc,0),np.mean(T,0)
        print(f, f"e {figs(e,Y[f]):.3f}/{mse(e,Y[f]):.3f} c {cfigs(c,comp[f])[0]:.3f}")
        cnt=np.rint(np.exp2(np.concatenate([Y[n] for n in tr]).astype(float))-1)
        for amp in amps:
            for tm in tempers:
                t0=time.time(); ls=[]
                for v in (0,1):
                    for kd in ('lin','rbf'):
                        K,Kq=Ks(np.concatenate([C[n]['s'][v] for n in tr]),C[f]['s'][v],kd)
                        ls.append(multinomial(K,Kq,cnt,amp,tm))
                each=[cfigs(np.log2(1+1e4*np.exp(l)),comp[f])[0] for l in ls]
                l=np.mean(ls,0); s=np.exp(l); s/=s.sum(1,keepdims=True)
                cm=np.log2(1+1e4*s)
                rec2,t2=depth_match(e,cm); rec=np.log2(1+(np.exp2(t)-1)*s)
                print(f"  amp {amp} temper {tm}: comp {cfigs(cm,comp[f])[0]:.3f} ({cfigs(cm,comp[f])[1]:.3f}) each {np.round(each,3)} with c {cfigs((c+cm)/2,comp[f])[0]:.3f} rec2 {figs(rec2,Y[f]):.3f}/{mse(rec2,Y[f]):.3f} rec {figs(rec,Y[f]):.3f}/{mse(rec,Y[f]):.3f} avg {figs((e+rec2)/2,Y[f]):.3f} pairs {pairs(rec2):.2f} {time.time()-t0:.0f}s",flush=True)
if __name__=='__main__':
    ds=H if sys.argv[1]=='h' else M
    enc,side,px=sys.argv[2].split(':')
    run(ds,(enc,side,int(px)),[.1,.3,1.],[.1,.3,1.0])
